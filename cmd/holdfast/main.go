// Command holdfast is the one binary: a member of a cluster, and the tools beside it.
//
// Called holdfast, or by any name that is not a tool's (etcd, etcd3), it takes the server flags of etcd and runs a member.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"holdfast/config"
	"holdfast/ctl"
	"holdfast/transport"
	"holdfast/util/jsonlog"
	"holdfast/util/version"
)

func main() {
	program := filepath.Base(os.Args[0])
	switch program {
	case "etcdctl":
		os.Exit(ctl.Main(context.Background(), ctl.System(program, os.Args[1:])))
	case "etcdutl":
		runUtl(true, os.Args[1:])
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "version":
			fmt.Print(version.Text())
			return
		case "gateway", "grpc-proxy":
			runBeside(program, os.Args[1:])
			return
		case "ctl":
			os.Exit(ctl.Main(context.Background(), ctl.System(program+" ctl", os.Args[2:])))
		case "utl":
			runUtl(false, os.Args[2:])
		case "bench":
			runBench(os.Args[2:])
			return
		}
	}
	serve(program, os.Args[1:])
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(config.ExitRefused)
}

// serve runs a member until a signal ends it or a part fails.
func serve(program string, args []string) {
	cfg, notes, err := config.Parse(config.Sources{
		Program: program, Args: args, Environ: os.Environ(), DefaultHost: config.DefaultHost,
	})
	var stop *config.Stop
	if err != nil && !errors.As(err, &stop) {
		exit(err)
	}
	terminal := isTerminal(os.Stderr)
	if stop != nil {
		cfg = config.Default()
	} else if terminal {
		quieten(&cfg)
	}
	log, outputs, err := jsonlog.Open(cfg.Log)
	if err != nil {
		exit(err)
	}
	ctx := context.Background()
	if stop != nil {
		fmt.Fprint(os.Stdout, stop.Stdout)
		fmt.Fprint(os.Stderr, stop.Stderr)
		notes.Log(ctx, log)
		stop.Notes.Log(ctx, log)
		os.Exit(stop.Code)
	}
	if !terminal || len(args) > 0 { // with nothing set there is nothing to say about settings
		notes.Log(ctx, log)
	}
	caught, err := run(cfg, log, outputs, terminal)
	removed := errors.Is(err, transport.ErrRemoved)
	switch {
	case removed:
		log.Warn("server error", "error", err)
		log.Warn("data-dir used by this member must be removed", "data-dir", cfg.DataDir)
	case err != nil:
		log.Log(ctx, jsonlog.LevelFatal, "the member has stopped", "error", err)
	}
	if closed := outputs.Close(); closed != nil {
		fmt.Fprintln(os.Stderr, closed)
	}
	switch {
	case removed:
		os.Exit(config.ExitAsked) // as etcd: whoever restarts what has failed is not to restart this
	case err != nil:
		os.Exit(config.ExitRefused)
	case caught != nil:
		raise(caught)
	}
}

// quieten leaves a terminal to one friendly line and to warnings, unless the user has chosen what to log.
func quieten(cfg *config.Config) {
	chosen := config.Default().Log
	if cfg.Log.Level == chosen.Level && cfg.Log.Format == chosen.Format && len(cfg.Log.Outputs) == 1 && cfg.Log.Outputs[0] == jsonlog.Default {
		cfg.Log.Level, cfg.Log.Format = "warn", string(jsonlog.Console)
	}
}

// awaitSignal cancels when the process is told to end and remembers by what. Signals that come while it ends change nothing.
func awaitSignal(cancel context.CancelFunc, log *slog.Logger) (caught func() os.Signal) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	got, done := make(chan os.Signal, 1), make(chan struct{})
	go func() { // ends with the process, or with the function returned here
		defer close(got)
		select {
		case s := <-signals:
			log.Info("received signal; shutting down", "signal", s.String())
			got <- s
			cancel()
		case <-done:
		}
	}()
	return func() os.Signal {
		close(done)
		defer signal.Stop(signals)
		return <-got
	}
}

// raise ends the process by the signal it has caught, so that its parent sees what ended it. The first process of a
// container cannot be ended so: its kernel passes the signal over.
func raise(s os.Signal) {
	if os.Getpid() == 1 {
		os.Exit(config.ExitAsked)
	}
	signal.Reset(s)
	if sig, ok := s.(syscall.Signal); ok {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			exit(err)
		}
	}
	select {} // the signal arrives in a moment
}
