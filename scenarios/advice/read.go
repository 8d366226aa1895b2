package advice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"twlab/harness/nearest"
)

// Setting is a line of a file that sets a sysctl.
type Setting struct {
	Line int
	// Name is dotted. Value has one space where the file has white space, and may be empty.
	Name, Value string
	// Quiet means that a dash stands before the name: that the kernel refuses the line is
	// not to be reported.
	Quiet bool
}

// Mistake is a line that is no setting, and what it may have been meant to be.
type Mistake struct {
	Line int
	Text string
}

// File is what a sysctl.conf says.
type File struct {
	Settings []Setting
	Mistakes []Mistake
}

// MostBytes is the size of the largest file that is read. The output of sysctl -a has some
// tens of kilobytes.
const MostBytes = 1 << 20

// mostHints is how many mistakes, and how many unknown names, are told with what may have been
// meant.
const mostHints = 20

// The reasons why a file is not read.
var (
	ErrTooLarge = errors.New("larger than 1 MiB: no sysctl.conf is")
	ErrNoText   = errors.New("not a text: want lines such as net.ipv4.tcp_timestamps = 1")
	ErrEmpty    = errors.New("no setting in it: want lines such as net.ipv4.tcp_timestamps = 1")
)

// Read reads a sysctl.conf, a file of sysctl.d, or the output of sysctl -a. A line that is no
// setting is one of the Mistakes. The errors are those above, or the reader's.
func Read(r io.Reader) (File, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MostBytes+1))
	if err != nil {
		return File{}, err
	}
	if len(raw) > MostBytes {
		return File{}, ErrTooLarge
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return File{}, ErrNoText
	}
	var f File
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		s, mistake := setting(line)
		switch {
		case mistake != "":
			if len(f.Mistakes) < mostHints {
				mistake += meant(line)
			}
			f.Mistakes = append(f.Mistakes, Mistake{i + 1, mistake})
		case s.Name != "":
			s.Line = i + 1
			f.Settings = append(f.Settings, s)
		}
	}
	if len(f.Settings) == 0 && len(f.Mistakes) == 0 {
		return File{}, ErrEmpty
	}
	return f, nil
}

// setting reads a line. Neither a setting nor a mistake is a name that sysctl.d excludes.
func setting(line string) (s Setting, mistake string) {
	quiet := strings.HasPrefix(line, "-")
	left, value, found := strings.Cut(strings.TrimPrefix(line, "-"), "=")
	left, value = strings.TrimSpace(left), strings.Join(strings.Fields(value), " ")
	switch {
	case !found && quiet && isName(left):
		return Setting{}, ""
	case !found || !isName(left):
		return Setting{}, quoted(line) + " is no setting: want NAME = VALUE"
	}
	return Setting{Name: dotted(left), Value: value, Quiet: quiet}, ""
}

// meant is the end of a sentence: the setting that a line may have been meant to be.
func meant(line string) string {
	left, value, _ := strings.Cut(line, "=")
	value = strings.Join(strings.Fields(value), " ")
	words := strings.FieldsFunc(left, func(r rune) bool { return unicode.IsSpace(r) || r == ':' })
	for i, w := range words {
		if !isName(w) {
			continue
		}
		if value == "" {
			value = strings.Join(words[i+1:], " ")
		}
		if name := dotted(w); value != "" && !strings.Contains(value, "=") {
			return "; meant: " + Shown(name+" = "+value) + "?"
		}
	}
	if len(words) == 1 {
		if near := nearest.To(words[0], lastNames("")); len(near) > 0 {
			return "; near it: " + strings.Join(near, ", ")
		}
	}
	return ""
}

// isName tells whether a text can be the name of a sysctl: at least two components of
// printable ASCII.
func isName(text string) bool {
	for _, r := range text {
		if r <= ' ' || r >= utf8.RuneSelf || r == 0x7f || strings.ContainsRune(`"'$(){}<>|&`, r) {
			return false
		}
	}
	name := dotted(text)
	return strings.Contains(name, ".") && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".")
}

// dotted is a name with dots between its components. Where a slash comes first, slashes are
// between the components, and dots belong to them, as in net/ipv4/conf/eth0.1/forwarding.
func dotted(name string) string {
	name = strings.TrimPrefix(name, "/proc/sys/")
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return strings.NewReplacer("/", ".", ".", "/").Replace(name)
	}
	return name
}

// numbers reads a value as the kernel does: in decimal, or with 0x or 0 before it.
func numbers(value string) (all []int, ok bool) {
	for _, field := range strings.Fields(value) {
		n, err := strconv.ParseInt(field, 0, 64)
		if err != nil {
			return nil, false
		}
		all = append(all, int(n))
	}
	return all, len(all) > 0
}

// mostShown is how much of a foreign text is shown, in characters.
const mostShown = 80

// Shown is a text of somebody else, of which a terminal acts on nothing.
func Shown(text string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text))
	if len(runes) > mostShown {
		return string(runes[:mostShown]) + "..."
	}
	return string(runes)
}

func quoted(text string) string { return fmt.Sprintf("%q", Shown(text)) }
