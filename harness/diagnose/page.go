package diagnose

import (
	"fmt"
	"io"
	"strings"
)

// WriteCauses writes causes as a page of Markdown: what happens, how to see it on a machine in
// production, what it is taken for, what to do and at what cost.
func WriteCauses(to io.Writer, all ...Cause) error {
	for i, c := range all {
		var alike []string
		for _, other := range c.LookAlikes {
			alike = append(alike, other.ID)
		}
		var symptoms []string
		for _, s := range c.Symptoms {
			symptoms = append(symptoms, string(s))
		}
		text := fmt.Sprintf("## %s\n\n%s\n\nThe connection is %s. In the kernel: %s.\n\n- **See it**: %s\n- **Do**: %s\n- **Cost**: %s\n",
			c.ID, c.Why, strings.Join(symptoms, " or "), c.Source, c.Look, c.Do, c.Cost)
		if len(alike) > 0 {
			text += fmt.Sprintf("- **Looks like**: %s\n", strings.Join(alike, ", "))
		}
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(to, text); err != nil {
			return err
		}
	}
	return nil
}
