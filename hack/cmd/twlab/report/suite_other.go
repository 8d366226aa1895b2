//go:build !linux

package report

import (
	"errors"

	"twlab/hack/internal/cli"
)

// ofSuites says that the suite's families are not part of this program.
func ofSuites([]string, *cli.Progress) (made, error) {
	return nil, errors.New("the page of a suite is made on Linux, where its families are")
}
