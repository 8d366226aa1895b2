// Package timewait has the families about what a TIME_WAIT does to the next connection:
// five-tuples that are reused, chance, the length of TIME_WAIT, long idle times, and
// tcp_tw_recycle.
package timewait
