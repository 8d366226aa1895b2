// Package timewait has the families about what a TIME_WAIT does to the next connection:
// five-tuples that come again, chance, length, long silence, and tcp_tw_recycle.
package timewait
