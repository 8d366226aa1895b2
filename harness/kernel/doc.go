// Package kernel describes what a kernel is and can do: its release, three-valued facts
// about it, its sysctls, and the requirements that a run has of it.
//
// Distributions backport, so a release number is only a hint. Wherever a probe can decide,
// the probe decides, and the release only helps to word the answer.
package kernel
