// Package proxy has the families about a balancer that connects to servers itself: its ports,
// which side closes first, and what gets lost.
package proxy
