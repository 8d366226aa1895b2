package report

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Plain returns the text without anything that a terminal or a reader would obey instead of
// showing: control characters, marks that turn the direction of text or are not visible, and
// bytes that are no UTF-8. They are written out, "\x1b" and "\u202e".
func Plain(text string) string {
	if strings.IndexFunc(text, unsafe) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case !unsafe(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// unsafe reports whether a terminal does something else with a character than show it, or
// shows nothing.
func unsafe(r rune) bool {
	if r < 0x80 { // nearly all are, and the tables need not be asked
		return r < ' ' || r > '~'
	}
	return r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.In(r, unicode.Zl, unicode.Zp)
}

// names are the keys of a map, sorted.
func names[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// sorted goes through a map in the order of its keys.
func sorted[T any](m map[string]T) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, name := range names(m) {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}
