// Package incidents has scenario files of what people really ran into, each with its right
// answer.
package incidents

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
		return nil, fmt.Errorf("incidents: %w", err)
	}
	return all, nil
}
