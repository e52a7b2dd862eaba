// Package utl is the tool for the files of a member that does not run: `holdfast utl`, and etcd's etcdutl under its own name.
//
// It reads and writes both kinds of data directories and etcd's database files. Called as etcdutl it behaves as etcd's tool
// does: the same commands, flags, output, exit codes. What it never does is write to a file that it only reads.
//
//	Shape    results on standard output in the format of --write-out, all else on standard error
//	Errors   each ends the command with one sentence and an exit code; damaged, truncated and foreign files with 1
//	Source   etcdutl of etcd 3.7.3, as it behaves
package utl

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
	"holdfast/util/jsonlog"
)

// Exit writes what ended a command, if anything did, and returns the exit code of the process.
func Exit(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "Error:", oneLine(err))
	return exit.Code(err)
}

// oneLine is the text of an error in one line. Errors that came together have one each, and the store's library adds lines that name
// its own types.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "<corruption detail carrier>" })
	return strings.Join(lines, "; ")
}

// tool is one call of the program.
type tool struct {
	// etcd tells that the tool was called etcdutl.
	etcd bool
	// timeout bounds the wait for a file that another process holds; 0: no bound. format is that of results.
	timeout time.Duration
	format  string
}

// name is how users call the tool.
func (t *tool) name() string {
	if t.etcd {
		return "etcdutl"
	}
	return "holdfast utl"
}

// Command is the tree of all commands. The errors they return are for Exit.
func Command(asEtcdutl bool) *cobra.Command {
	t := &tool{etcd: asEtcdutl}
	root := &cobra.Command{
		Use:   "etcdutl",
		Short: "An administrative command line tool for etcd3.",
		Long:  "Works on the files of members that do not run: snapshots, and data directories of Holdfast and of etcd.",
	}
	if !t.etcd {
		root.Use, root.Short = "utl", "Works on the files of members that do not run"
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: t.name()}
	}
	f := root.PersistentFlags()
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	f.StringVarP(&t.format, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	must(root.RegisterFlagCompletionFunc("write-out", cobra.FixedCompletions(output.Formats(), cobra.ShellCompDirectiveDefault)))
	root.AddCommand(t.snapshot(), t.hashKV(), t.defrag(), t.migrate(), t.importData(), t.exportData(), t.version(), t.completion(), t.recoverCommand(), t.member())
	return root
}

// must is for what only a mistake in this package can break.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("utl: %v", err))
	}
}

// action makes a function a command's RunE. cobra explains its own errors, as etcd's tool lets it; ours stand for themselves.
func action(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return run(cmd, args)
	}
}

// logger writes what a command does to standard error, in the form of etcd's tool.
func logger(cmd *cobra.Command) *slog.Logger {
	out := jsonlog.NewOutputs(cmd.ErrOrStderr(), slog.LevelInfo)
	return slog.New(jsonlog.NewHandler(out, out.Level(), jsonlog.Console))
}
