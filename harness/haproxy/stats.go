//go:build linux

package haproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"twlab/harness/kernel"
)

// parseStatistics parses the answer to "show info;show stat": lines "Name: value", and a
// table in CSV whose header begins with "# ".
func parseStatistics(answer string) (kernel.Counters, error) {
	info, table, found := strings.Cut(answer, "# ")
	if !found {
		return nil, fmt.Errorf("no table in the answer %q", answer)
	}
	all := kernel.Counters{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		count(all, "process."+name, value)
	}
	rows, err := csv.NewReader(strings.NewReader(table)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("table of statistics: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("table of statistics: empty")
	}
	const nameColumn = 1
	header := rows[0]
	if len(header) <= nameColumn || header[nameColumn] != "svname" {
		return nil, errors.New("table of statistics: its second column is not svname")
	}
	for _, row := range rows[1:] {
		// FRONTEND, BACKEND, or the server's name.
		who := strings.ToLower(row[nameColumn])
		for i, value := range row {
			count(all, who+"."+header[i], value)
		}
	}
	return all, nil
}

// count adds a value if it is a number.
func count(all kernel.Counters, name, value string) {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil {
		all[name] = n
	}
}
