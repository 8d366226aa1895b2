// Package ask is the subcommand that runs a user's own cells, and compares what the kernel did
// with what the rules predict.
package ask

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/internal/cli"
)

const usage = `usage: twlab ask FILE [flags of hack/e2e]

Runs your own cells, which FILE describes in YAML. It shows what happens with your sysctls,
and which rule predicts it, if any. Axes that a cell leaves out have their usual value, the
first one in scenarios/RULES.md:

  - name: our balancer, two phones behind one address
    family: tuple
    axes: {clock: older, second: other-host}
    sysctls:
      balancer: {net.ipv4.tcp_rfc1337: 1}

One cell is asked better by twlab show and twlab run: that leaves its steps, its packets and a
page. What remains are cells that no file brings about (twlab show says why), and lists of cells.

For each cell it prints what the kernel did and what the rule predicts, the reason of the
rule, and every counter that changed. hack/e2e --cell FILE does the same.

  twlab ask phones.yaml
  twlab ask phones.yaml --kernel all=debian-6.1 --virtual-time
  twlab ask phones.yaml --output-dir /tmp/phones

Results and exit status are those of hack/e2e.
`

// Command is the subcommand.
func Command() *cobra.Command {
	return e2e.Like(&cobra.Command{
		Use:   "ask FILE [flags of hack/e2e]",
		Short: "Run your own cells, and say which rules cover them",
	}, usage, func(c *cobra.Command, words []string) error {
		r, err := request(words)
		if err != nil {
			return err
		}
		return e2e.Run(c.Context(), r)
	})
}

// request is the run of the suite that the words ask for. The file is the first word.
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
			return e2e.Request{}, cli.Usage(fmt.Errorf("--cell means nothing here: give the file as the first word"))
		}
	}
	if file != "" {
		flags = append([]string{"--cell=" + file}, flags...)
	}
	r, err := e2e.Parse(flags, nil)
	if err == nil && file == "" {
		err = cli.Usage(fmt.Errorf("which file? give it as the first word"))
	}
	return r, err
}
