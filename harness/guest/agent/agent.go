//go:build linux

// Package agent is the program that a guest runs as /init. It is for the main function of
// hack/cmd/agent and of no use elsewhere.
package agent

import (
	"context"
	"io"

	"twlab/harness/internal/agent"
)

// Init is the work of process 1 of a guest: it serves the calls of the host until the
// connection ends, and powers the guest off. It writes messages to out, the console.
func Init(ctx context.Context, out io.Writer) { agent.Init(ctx, out) }
