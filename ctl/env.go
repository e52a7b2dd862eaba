package ctl

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/grpclog"
)

// Env is the world a command works in. Tests put a world of their own in its place.
type Env struct {
	Program string   // as the user calls it: "etcdctl" or "holdfast ctl"
	Args    []string // what follows the program's name

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string // "NAME=value"

	// Sleep waits, or returns the context's error when that ends first.
	Sleep func(context.Context, time.Duration) error
	// LookupHost resolves the name of an endpoint into addresses.
	LookupHost func(ctx context.Context, host string) ([]string, error)
	// LogGRPC says where gRPC's log goes, which is the whole process's and may be said before gRPC is used only.
	LogGRPC func(grpclog.LoggerV2)
}

// System is the world of a process.
func System(program string, args []string) Env {
	return Env{
		Program: program, Args: args, Environ: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Sleep: sleep, LookupHost: net.DefaultResolver.LookupHost, LogGRPC: grpclog.SetLoggerV2,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// getenv returns the value of a variable; of several with one name the last counts, as for programs that are started.
func (e Env) getenv(name string) string {
	value := ""
	for _, pair := range e.Environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}
