// Package ask is the subcommand that runs cells of somebody's own, and says what the kernel did
// beside what the rules predict.
package ask

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/internal/cli"
)

const usage = `usage: twlab ask FILE [flags of hack/e2e]

Runs cells of your own, as FILE describes them in YAML: what happens with your sysctls, does
any claim cover them, and which rule says so? What a cell leaves out has its usual value,
which scenarios/CLAIMS.md lists first:

  - name: our balancer, two phones behind one address
    family: tuple
    axes: {clock: older, second: other-host}
    sysctls:
      balancer: {net.ipv4.tcp_rfc1337: 1}

Prints, for each, what the kernel did beside what the rule predicts, the rule's reason and
every counter that moved. hack/e2e --cell FILE is the same.

  twlab ask phones.yaml
  twlab ask phones.yaml --kernel all=debian-6.1 --virtual-time
  twlab ask phones.yaml --output-dir /tmp/phones

Results and exit status are as those of hack/e2e.
`

// Command is the subcommand.
func Command() *cobra.Command {
	return e2e.Like(&cobra.Command{
		Use:   "ask FILE [flags of hack/e2e]",
		Short: "Run cells of your own, and say which rules cover them",
	}, usage, func(c *cobra.Command, words []string) error {
		r, err := request(words)
		if err != nil {
			return err
		}
		return e2e.Run(c.Context(), r)
	})
}

// request is the run of the suite that the words ask for. The file stands first.
func request(words []string) (e2e.Request, error) {
	file, flags := "", words
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		file, flags = words[0], words[1:]
	}
	for _, f := range flags {
		if f == "--" {
			break
		}
		if name, _, _ := strings.Cut(strings.TrimLeft(f, "-"), "="); strings.HasPrefix(f, "-") && name == "cell" {
			return e2e.Request{}, cli.Usage(fmt.Errorf("--cell means nothing here: the file stands first"))
		}
	}
	if file != "" {
		flags = append([]string{"--cell=" + file}, flags...)
	}
	r, err := e2e.Parse(flags, nil)
	if err == nil && file == "" {
		err = cli.Usage(fmt.Errorf("which file? it stands first"))
	}
	return r, err
}
