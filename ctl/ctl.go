// Package ctl is the command line client: `holdfast ctl`, and `etcdctl` when the program is called so.
//
// Commands, flags, environment, output and exit codes are those of etcd's etcdctl, so that scripts written for it run
// unchanged, against Holdfast and against etcd. Where a person reads - help, and the hints under an error - it says more.
//
// A command is a function of its arguments and an Env that returns an error; only Main knows of exit codes. How answers look is
// package output's matter.
//
//	Source  etcd 3.7.3's etcdctl; what differs, and why, stands in docs/differences.md
package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
)

// tool is one run of the program: its world, its global flags, and how it answers.
type tool struct {
	env      Env
	flags    globals
	printer  *output.Printer // set with the client's description, before anything is shown
	layout   output.Layout   // likewise
	logLevel zap.AtomicLevel // of what clients say
}

// Main runs the command that env holds and returns the exit code.
func Main(ctx context.Context, env Env) int {
	cobra.EnablePrefixMatching = true // a setting of the library for the whole process: here, of a process that is this tool
	root := Command(env)
	root.SetArgs(env.Args)
	cmd, err := root.ExecuteContextC(ctx)
	var refused *failure
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Told:
	case errors.As(err, &refused):
		fmt.Fprintln(env.Stderr, "Error:", err)
		for _, hint := range hints(err, env.Program) {
			fmt.Fprintln(env.Stderr, "hint:", hint)
		}
	case strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(env.Stderr, "Error: %v\nRun '%s --help' for usage.\n", err, root.CommandPath())
	default: // flags and numbers of arguments, which cobra looks at
		fmt.Fprintf(env.Stderr, "Error: %v\n%s\n", err, cmd.UsageString())
	}
	return exit.Code(err)
}

// The groups of commands in the help.
const (
	groupKV          = "kv"
	groupCluster     = "cluster maintenance"
	groupConcurrency = "concurrency"
	groupAuth        = "authentication"
	groupUtility     = "utility"
)

// Command is the tree of all commands.
func Command(env Env) *cobra.Command {
	t := &tool{env: env, logLevel: zap.NewAtomicLevel()}
	name := env.Program[strings.LastIndexByte(env.Program, ' ')+1:]
	root := &cobra.Command{
		Use:   name,
		Short: "Talks to a cluster of Holdfast or etcd.",
		Long: "Talks to a cluster of Holdfast or etcd.\n\nCommands, flags and output are those of etcdctl 3.7. " +
			"Each flag has an environment variable: ETCDCTL_ENDPOINTS for --endpoints.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: env.Program},
		SilenceErrors: true, SilenceUsage: true, // Main says them
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	t.flags.register(root.PersistentFlags())
	completeWith(root, "write-out", output.Formats()...)
	root.AddGroup(
		&cobra.Group{ID: groupKV, Title: "Key-value commands"},
		&cobra.Group{ID: groupCluster, Title: "Cluster maintenance commands"},
		&cobra.Group{ID: groupConcurrency, Title: "Concurrency commands"},
		&cobra.Group{ID: groupAuth, Title: "Authentication commands"},
		&cobra.Group{ID: groupUtility, Title: "Utility commands"},
	)
	t.add(root, groupKV, t.get(), t.put(), t.del(), t.txn(), t.compaction(), t.watch(), t.lease())
	t.add(root, groupCluster, t.alarm(), t.defrag(), t.downgrade(), t.endpoint(), t.member(), t.moveLeader(), t.snapshot())
	t.add(root, groupConcurrency, t.lock(), t.elect())
	t.add(root, groupAuth, t.auth(), t.role(), t.user())
	t.add(root, groupUtility, t.check(), t.makeMirror(), t.pki(), t.version(), t.options(root), t.completion())
	root.SetHelpCommandGroupID(groupUtility)
	t.explainUnknown(root)
	hideGlobals(root)
	return root
}

// add puts commands into a group.
func (t *tool) add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// run makes what a command does into what cobra calls: an error without an exit code of its own becomes the plain one.
func run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return fail(exitError, do(cmd, args))
	}
}

// show writes an answer in the format that was asked for.
func (t *tool) show(a output.Answer) error {
	err := t.printer.Print(a)
	if errors.Is(err, output.ErrUnsupported) {
		return fail(exitBadFeature, err)
	}
	return fail(exitIO, err)
}

// completeWith tells shells the values of a flag.
func completeWith(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveDefault))
	if err != nil {
		panic(fmt.Sprintf("ctl: %s: %v", cmd.Name(), err)) // the flag is not there
	}
}

// examples indents the lines of an example as the help does, and puts the program's name in the place of "ctl".
func (t *tool) examples(lines ...string) string {
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(line, "ctl "); ok {
			line = t.env.Program + " " + rest
		} else {
			line = strings.ReplaceAll(line, " ctl ", " "+t.env.Program+" ")
		}
		lines[i] = "  " + line
	}
	return strings.Join(lines, "\n")
}
