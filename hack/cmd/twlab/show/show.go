// Package show is the subcommand that prints a cell of the matrix as a scenario file.
package show

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/kernel"
	"twlab/harness/scriptfile"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/document"
)

const about = `Prints a cell of the matrix as a scenario file, to be changed and run by twlab run: the network,
the steps that bring its situation about, and what its rule expects. What the rule expects and
files have no word for is a comment.

CELL is the name of the cell, as reports and JUnit have it: the family, and AXIS=VALUE for each
axis. Axes that are left out have their usual value, the first one in scenarios/RULES.md. Or it
is the name of a rule, for a quick cell to which that rule applies.

As long as the file keeps its name, twlab run says which rule predicts what was seen, whatever
sysctls were changed, or that no rule claims anything of it.

Which rule applies depends on the kernel: --release says which one, if not the running one. A
distribution's kernel may have more than mainline of its release: twlab run asks the kernel itself.
It needs no privilege and runs nothing.

Exit status: 0 if the cell was printed, 2 if there is no such cell, or files cannot bring it
about.`

// Command is the subcommand.
func Command() *cobra.Command {
	var release string
	c := &cobra.Command{
		Use:   "show CELL",
		Short: "Print a cell of the matrix as a scenario file",
		Long:  about,
		Example: `  twlab show tuple clock=older rfc1337=1
  twlab show tuple-older-timestamp-answered > mine.yaml && twlab run mine.yaml
  twlab show --release 5.10 tuple clock=older`,
	}
	c.Flags().StringVar(&release, "release", "", "`RELEASE` of the kernel whose rules apply; the running one without it")
	c.RunE = func(c *cobra.Command, words []string) error {
		on, err := releaseOf(release)
		if err != nil {
			return cli.Usage(err)
		}
		return cli.NotRunError(write(c.OutOrStdout(), words, on))
	}
	return c
}

// releaseOf parses a release; that of the running kernel if the text is empty.
func releaseOf(text string) (kernel.Release, error) {
	if text == "" {
		return kernel.Running()
	}
	return kernel.ParseRelease(text)
}

// write writes the cell of these words.
func write(to io.Writer, words []string, on kernel.Release) error {
	kernels := claim.Alike(kernel.FactsOf(on))
	f, c, err := scenarios.Named(words, kernels)
	if err != nil {
		return err
	}
	rule, covered := f.Rule(c, kernels)
	switch {
	case !covered:
		return fmt.Errorf("%s %s: no rule for this cell on Linux %v", f.Name, f.Describe(c), on)
	case rule.OutOfReach:
		return fmt.Errorf("%s %s cannot be on Linux %v: %s", f.Name, f.Describe(c), on, rule.Because)
	}
	s, unsaid, err := f.Scenario(c, rule)
	if err != nil {
		return err
	}
	remarks := []string{
		fmt.Sprintf("A cell of the matrix, and what rule %s expects of it on Linux %v. Run it by: twlab run FILE", rule.Name, on),
		"Source: " + rule.Source,
	}
	for _, proved := range document.ProvedBy(rule.Name) {
		remarks = append(remarks, "Claim: "+strings.TrimSuffix(proved.English, ".")+". "+proved.Truth)
	}
	if len(unsaid) > 0 {
		remarks = append(remarks, "The rule also expects this, for which files have no word: "+strings.Join(texts(unsaid), "; ")+".")
	}
	return scriptfile.Write(to, s, remarks...)
}

func texts(all []claim.Expectation) (texts []string) {
	for _, e := range all {
		texts = append(texts, e.String())
	}
	return texts
}
