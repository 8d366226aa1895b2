// Package page makes one HTML file of recordings: it can be mailed, is read without a script, and
// loads nothing from anywhere. What a recording says is shown as text, whatever it is.
package page
