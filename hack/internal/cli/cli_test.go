package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program is a command with two subcommands, of which one has a flag.
func program() *cobra.Command {
	nothing := func(*cobra.Command, []string) error { return nil }
	root := Group(&cobra.Command{Use: "p", SilenceErrors: true, SilenceUsage: true})
	root.SetFlagErrorFunc(WrongFlag)
	fetch := &cobra.Command{Use: "fetch", Args: NoArguments, RunE: nothing}
	fetch.Flags().String("mirror", "", "")
	root.AddCommand(fetch, &cobra.Command{Use: "list", Args: NoArguments, RunE: nothing})
	return root
}

func TestSlipsNameWhatWasMeant(t *testing.T) {
	for line, want := range map[string]string{
		"":                        "p: no command: want one of fetch, list; see p --help\n",
		"fetsch":                  "p: unknown command \"fetsch\"; near it: fetch; see p --help\n",
		"boot":                    "p: unknown command \"boot\"; it is one of fetch, list; see p --help\n",
		"fetch --miror x":         "p fetch: unknown flag --miror; near it: --mirror; see p fetch --help\n",
		"fetch --colour":          "p fetch: unknown flag --colour; see p fetch --help\n",
		"list --mirror x":         "p list: --mirror means nothing here; it belongs to p fetch; see p list --help\n",
		"fetch --mirror":          "p fetch: flag needs an argument: --mirror; see p fetch --help\n",
		"list x":                  "p list: argument \"x\" belongs to no flag; see p list --help\n",
		"fetch --mirror=x":        "",
		"fetch --mirror x --help": "",
	} {
		root := program()
		root.SetArgs(strings.Fields(line))
		root.SetOut(&bytes.Buffer{})
		var said bytes.Buffer
		c, err := root.ExecuteContextC(t.Context())
		status := Report(&said, c, err)
		if said.String() != want || (status == 0) != (want == "") || want != "" && status != NotRun {
			t.Errorf("%s: status %d, %q, want %q", line, status, &said, want)
		}
	}
}

func TestStatuses(t *testing.T) {
	c := &cobra.Command{Use: "p", Annotations: map[string]string{SpeaksAs: "hack/p"}}
	for _, e := range []struct {
		err    error
		status int
		says   string
	}{
		{nil, 0, ""},
		{errors.New("x"), Failed, "hack/p: x\n"},
		{NotRunError(errors.New("x")), NotRun, "hack/p: x\n"},
		{NotRunError(Usage(fmt.Errorf("x"))), NotRun, "hack/p: x; see hack/p --help\n"},
		{NotRunError(nil), 0, ""},
		{NotRunError(StatusError{Status: 7}), 7, ""},
		{fmt.Errorf("x: %w", StatusError{Status: 7}), 7, ""},
	} {
		var said bytes.Buffer
		if status := Report(&said, c, e.err); status != e.status || said.String() != e.says {
			t.Errorf("%v: status %d, %q, want %d, %q", e.err, status, &said, e.status, e.says)
		}
	}
}
