package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// watchFlags are those of watch, on the command line and in its interactive form.
type watchFlags struct {
	rev              int64 // 0 is from now on
	prefix, prevKV   bool
	progress         bool
	interactive      bool
	envKey, envRange string // ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END
}

func (f *watchFlags) register(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "read watch and progress commands from standard input")
	fs.BoolVar(&f.prefix, "prefix", false, "watch all keys that begin with the given one")
	fs.Int64Var(&f.rev, "rev", 0, "revision to begin at (0: what comes from now on)")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "show the pair as it was before each event")
	fs.BoolVar(&f.progress, "progress-notify", false, "show now and then up to which revision there was nothing")
}

var (
	errWatchArgs      = badArgs("bad number of arguments")
	errWatchConflict  = badArgs("bad number of arguments (found conflicting environment key)")
	errWatchSeparator = badArgs("bad number of arguments (found separator --, but no commands)")
)

func (t *tool) watch() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short: "Watches events stream on keys or prefixes",
		Long: `Shows what happens to a key, a range or a prefix, and runs a command for each event if one is given.

ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand for arguments that are not given. The command finds in its environment
ETCD_WATCH_REVISION, and quoted ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE; it ends the watch when it fails.`,
		Example: t.examples("ctl watch greeting", "ctl watch --prefix config/ --rev=1 --prev-kv", "ctl watch a c -w json",
			"ctl watch greeting -- sh -c 'echo $ETCD_WATCH_KEY is now $ETCD_WATCH_VALUE'",
			"printf 'watch a\\nwatch --prefix b\\nprogress\\n' | ctl watch -i"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			f.envKey, f.envRange = t.env.getenv("ETCDCTL_WATCH_KEY"), t.env.getenv("ETCDCTL_WATCH_RANGE_END")
			if f.envKey == "" && f.envRange != "" {
				return badArgs("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=%q", f.envRange)
			}
			if f.interactive {
				return t.watchInteractively(cmd, f.envKey, f.envRange)
			}
			dash := cmd.ArgsLenAtDash()
			what, command, err := f.split(args, dash)
			if err != nil {
				return err
			}
			return t.watchOne(cmd, &f, what, command)
		}),
	}
	f.register(cmd.Flags())
	return cmd
}

// split parts arguments into what is watched and the command that is run; the first dash of them stand before "--", and there
// was none if dash is negative. The environment stands for arguments that are not given, and only for such.
func (f *watchFlags) split(args []string, dash int) (what, command []string, err error) {
	what = args
	if dash >= 0 {
		what, command = args[:dash], args[dash:]
		if len(command) == 0 {
			return nil, nil, errWatchSeparator
		}
	}
	switch {
	case f.envKey == "" && len(what) == 0:
		return nil, nil, errWatchArgs
	case f.envKey == "":
		return what, command, nil
	case len(what) > 0:
		return nil, nil, errWatchConflict
	case f.envRange == "":
		return []string{f.envKey}, command, nil
	}
	return []string{f.envKey, f.envRange}, command, nil
}

// open begins a watch.
func (f *watchFlags) open(ctx context.Context, c *clientv3.Client, what []string) (clientv3.WatchChan, error) {
	opts := []clientv3.OpOption{clientv3.WithRev(f.rev)}
	if len(what) == 2 {
		if f.prefix {
			return nil, badArgs("`range_end` and `--prefix` are mutually exclusive")
		}
		opts = append(opts, clientv3.WithRange(what[1]))
	}
	opts = when(opts, f.prefix, clientv3.WithPrefix)
	opts = when(opts, f.prevKV, clientv3.WithPrevKV)
	opts = when(opts, f.progress, clientv3.WithProgressNotify)
	return c.Watch(clientv3.WithRequireLeader(ctx), what[0], opts...), nil
}

func (t *tool) watchOne(cmd *cobra.Command, f *watchFlags, what, command []string) error {
	c, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer t.close(c)
	events, err := f.open(cmd.Context(), c, what)
	if err != nil {
		return err
	}
	if err := t.follow(cmd.Context(), events, command, new(sync.Mutex)); err != nil {
		return err
	}
	return fail(exitInterrupted, errors.New("watch is canceled by the server"))
}

// follow shows what a watch brings until it ends, holding mu while it writes or runs the command.
func (t *tool) follow(ctx context.Context, events clientv3.WatchChan, command []string, mu *sync.Mutex) error {
	for r := range events {
		if err := t.showEvents(ctx, &r, command, mu); err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) showEvents(ctx context.Context, r *clientv3.WatchResponse, command []string, mu *sync.Mutex) error {
	mu.Lock()
	defer mu.Unlock()
	if r.Canceled {
		fmt.Fprintf(t.env.Stderr, "watch was canceled (%v)\n", r.Err())
	}
	if r.IsProgressNotify() {
		fmt.Fprintf(t.env.Stdout, "progress notify: %d\n", r.Header.GetRevision())
	}
	if err := t.show(output.Watch(r)); err != nil {
		return err
	}
	if len(command) == 0 {
		return nil
	}
	for _, e := range r.Events {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(slices.Clone(t.env.Environ),
			fmt.Sprintf("ETCD_WATCH_REVISION=%d", r.Header.GetRevision()),
			fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", e.GetType()),
			fmt.Sprintf("ETCD_WATCH_KEY=%q", e.GetKv().GetKey()),
			fmt.Sprintf("ETCD_WATCH_VALUE=%q", e.GetKv().GetValue()))
		cmd.Stdout, cmd.Stderr = t.env.Stdout, t.env.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(t.env.Stderr, "command %q error (%v)\n", command, err)
			return said(exitError, err)
		}
	}
	return nil
}

// watchInteractively begins a watch for each line of standard input that asks for one. It ends when there is no line left, or a
// command fails.
func (t *tool) watchInteractively(cmd *cobra.Command, envKey, envRange string) error {
	c, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer t.close(c)
	ctx, stop := context.WithCancel(cmd.Context())
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stop()
	lines := t.lines(ctx)
	failed := make(chan error)
	var mu sync.Mutex // guards the output
	for {
		select {
		case err := <-failed:
			return err
		case line := <-lines:
			if line.err != nil {
				return fail(exitInvalidInput, fmt.Errorf("error reading watch request line: %w", line.err))
			}
			begun, err := t.interactiveLine(ctx, c, line.text, envKey, envRange)
			if err != nil {
				return err
			}
			if begun != nil {
				watches.Go(func() { // ends with its watch, or with ctx
					if err := t.follow(ctx, begun.events, begun.command, &mu); err != nil {
						select {
						case failed <- err:
						case <-ctx.Done():
						}
					}
				})
			}
		}
	}
}

// line is one of standard input, or why there is none.
type line struct {
	text string
	err  error
}

// lines reads standard input. A read cannot be called off: the goroutine ends with the input, or with the process.
func (t *tool) lines(ctx context.Context) <-chan line {
	out := make(chan line)
	go func() {
		in := bufio.NewReader(t.env.Stdin)
		for {
			text, err := in.ReadString('\n')
			select {
			case out <- line{strings.TrimSuffix(text, "\n"), err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// begun is a watch that an interactive line has begun.
type begun struct {
	events  clientv3.WatchChan
	command []string
}

// interactiveLine carries a line out. A line that makes no sense is passed over with a word on standard error, save for mistakes in
// arguments, which end the program as etcd's.
func (t *tool) interactiveLine(ctx context.Context, c *clientv3.Client, text, envKey, envRange string) (*begun, error) {
	args, err := words(text)
	if err != nil {
		return nil, fail(exitInvalidInput, err)
	}
	switch {
	case len(args) == 0:
		fmt.Fprintf(t.env.Stderr, "Invalid command: %s (watch and progress supported)\n", text)
		return nil, nil
	case args[0] == "progress":
		return nil, c.RequestProgress(clientv3.WithRequireLeader(ctx))
	case args[0] != "watch":
		fmt.Fprintf(t.env.Stderr, "Invalid command %s (only support watch)\n", text)
		return nil, nil
	case len(args) < 2 && envKey == "":
		fmt.Fprintf(t.env.Stderr, "Invalid command %s (command type or key is not provided)\n", text)
		return nil, nil
	}
	f := watchFlags{envKey: envKey, envRange: envRange}
	fs := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.register(fs)
	if err := fs.Parse(args[1:]); err != nil {
		return nil, fail(exitBadArgs, err)
	}
	what, command, err := f.split(fs.Args(), fs.ArgsLenAtDash())
	if err != nil {
		return nil, err
	}
	events, err := f.open(ctx, c, what)
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "Invalid command %s (%v)\n", text, err)
		return nil, nil
	}
	return &begun{events, command}, nil
}
