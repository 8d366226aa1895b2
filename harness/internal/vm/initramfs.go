//go:build linux

package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/program"
)

// Initramfs makes the file system of a machine in memory, without a file on disk. It
// contains the agent, those modules of these names that exist, and more. It is not
// compressed, because not every kernel can unpack it, and under emulation unpacking is
// slow.
func Initramfs(agentPath string, available Modules, names []string, more ...cpio.Record) (*os.File, error) {
	image, err := os.ReadFile(agentPath)
	if err != nil {
		return nil, fmt.Errorf("guest agent: %w; build it: CGO_ENABLED=0 GOARCH=amd64 go build -o %[2]s ./hack/cmd/agent", err, agentPath)
	}
	const executable, readable = 0o755, 0o644
	records := []cpio.Record{
		cpio.StaticFile("init", string(image), executable),
		// Process 1 uses dev/console as its standard input and output, and makes the other
		// devices itself.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
	}
	loaded, err := available.load(names)
	if err != nil {
		return nil, err
	}
	var order strings.Builder
	for _, m := range loaded {
		file := path.Join(path.Dir(agent.ModuleList), m.name+".ko")
		fmt.Fprintln(&order, file)
		records = append(records, cpio.StaticFile(file[1:], string(m.image), readable))
	}
	records = append(records, cpio.StaticFile(agent.ModuleList[1:], order.String(), readable))
	records = append(records, more...)
	return program.InMemory("initramfs", func(w io.Writer) error {
		out := cpio.Newc.Writer(w)
		return errors.Join(cpio.WriteRecordsAndDirs(out, records), cpio.WriteTrailer(out))
	})
}
