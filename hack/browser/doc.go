// Package browser looks at the pages of twlab in a real browser. It is a module of its own, so that
// nobody else needs what drives one.
package browser
