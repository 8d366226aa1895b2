// Package advice says what is wrong with the lines of a sysctl.conf, for a kernel and a role.
// Each sentence is proved by rules of the suite or a scenario file, or is the history of the
// sysctl. It builds on any system.
package advice
