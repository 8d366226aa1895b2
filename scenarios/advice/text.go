package advice

import (
	"fmt"
	"io"
	"strings"

	"twlab/harness/topo"
)

// widest is the length of a line of the text.
const widest = 100

// WriteText writes findings as text: each line of the file that there is something to say
// about, and below it what, and the command that shows it.
func WriteText(to io.Writer, all []Finding) error {
	var b strings.Builder
	line := 0
	for _, f := range all {
		if f.Setting.Line != line {
			line = f.Setting.Line
			fmt.Fprintf(&b, "\nline %d: %s = %s\n", line, Shown(f.Setting.Name), Shown(f.Setting.Value))
		}
		said := string(f.Level)
		if len(f.Roles) > 0 {
			said += " on a " + listed(f.Roles)
		}
		wrapped(&b, "  ", "    ", said+": "+f.Text)
		for _, command := range f.Commands() {
			fmt.Fprintf(&b, "      %s\n", command)
		}
		if len(f.Shown) == 0 && f.Source != "" {
			fmt.Fprintf(&b, "      source: %s\n", f.Source)
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// Commands are what shows the finding, to be run in the repository. IMAGE stands for a kernel
// that the finding is about.
func (f Finding) Commands() (all []string) {
	var guests, scenarios []string
	labels := map[string][]string{}
	for _, p := range f.Shown {
		if p.File != "" {
			scenarios = append(scenarios, Incidents+p.File)
			continue
		}
		if len(labels[p.Guest]) == 0 {
			guests = append(guests, p.Guest)
		}
		labels[p.Guest] = append(labels[p.Guest], "rule:"+p.Rule)
	}
	for _, guest := range guests {
		command := fmt.Sprintf("hack/e2e --label-filter '%s'", strings.Join(labels[guest], " || "))
		if guest != "" {
			command += fmt.Sprintf(" --kernel %s=IMAGE", guest)
		}
		all = append(all, command)
	}
	if len(scenarios) > 0 {
		all = append(all, "hack/twlab run "+strings.Join(scenarios, " "))
	}
	return all
}

// Incidents is the directory of the scenario files.
const Incidents = "scenarios/incidents/"

// listed is "client, balancer or server".
func listed(roles []topo.Role) string {
	text := ""
	for i, r := range roles {
		switch {
		case i == 0:
		case i == len(roles)-1:
			text += " or "
		default:
			text += ", "
		}
		text += string(r)
	}
	return text
}

// wrapped writes a sentence in lines of at most the widest length.
func wrapped(b *strings.Builder, first, others, text string) {
	line := first
	for i, word := range strings.Fields(text) {
		unit := strings.HasPrefix(word, "s") && len(word) <= len("s.") // stays with its number
		switch {
		case i == 0:
			line += word
		case !unit && len(line)+1+len(word) > widest:
			b.WriteString(line + "\n")
			line = others + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}
