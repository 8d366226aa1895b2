// Package causes has scenario files that bring about each cause which package diagnose knows.
package causes

import (
	"embed"
	"fmt"

	"twlab/harness/scriptfile"
)

//go:embed *.yaml
var files embed.FS

// All reads all files, in the order of their names.
func All() (all []scriptfile.File, err error) {
	if all, err = scriptfile.ReadFS(files); err != nil {
		return nil, fmt.Errorf("causes: %w", err)
	}
	return all, nil
}
