//go:build linux

// Package agent is the program that a guest runs as /init, for the main function of
// hack/cmd/agent. It is of no use anywhere else.
package agent

import (
	"context"
	"io"

	"twlab/harness/internal/agent"
)

// Init is the whole life of process 1 of a machine: it serves the calls of the host
// until that ends, and powers the machine off. What it has to say goes to out, the
// console.
func Init(ctx context.Context, out io.Writer) { agent.Init(ctx, out) }
