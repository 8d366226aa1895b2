//go:build !linux

package report

import "errors"

// ofSuites says that the suite's families are not part of this program.
func ofSuites([]string) (made, error) {
	return nil, errors.New("the page of a suite is made on Linux, where its families are")
}
