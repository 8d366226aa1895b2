// Package proxy has the families about a balancer that connects to servers itself: its ports,
// the order of endings, and what gets lost.
package proxy
