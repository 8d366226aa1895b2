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
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("incidents: %w", err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("incidents: %w", err)
		}
		f, err := scriptfile.Read(e.Name(), text)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}
