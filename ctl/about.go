package ctl

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/util/version"
)

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Prints the version of etcdctl",
		Long:    "Prints the version of etcdctl that this tool stands for, and that of the API it speaks.",
		Example: t.examples("ctl version"),
		RunE: run(func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(t.env.Stdout, "etcdctl version: %s\nAPI version: %s\n", version.EtcdVersion, version.EtcdMinor())
			return fail(exitIO, err)
		}),
	}
}

// options lists the global flags, which the help of each command leaves out.
func (t *tool) options(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "options",
		Short:   "Show the global command-line flags",
		Example: t.examples("ctl options"),
		RunE: run(func(*cobra.Command, []string) error {
			shown := pflag.NewFlagSet("global", pflag.ContinueOnError)
			root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
				copied := *f
				copied.Hidden = false
				shown.AddFlag(&copied)
			})
			_, err := fmt.Fprintf(t.env.Stdout, "The following options can be passed to any command:\n\n%s", shown.FlagUsages())
			return fail(exitIO, err)
		}),
	}
}

func (t *tool) completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion [bash|zsh|fish|powershell]",
		Short: "Generate completion script",
		Long:  "Writes a script that teaches a shell to complete this program's commands and flags.",
		Example: t.examples("source <(ctl completion bash)", "ctl completion bash > /etc/bash_completion.d/etcdctl",
			"ctl completion zsh > \"${fpath[1]}/_etcdctl\"", "ctl completion fish > ~/.config/fish/completions/etcdctl.fish"),
		DisableFlagsInUseLine: true,
		ValidArgs:             shells,
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if root.Name() != root.CommandPath() { // a shell completes the name of a program: that of the link
				env := t.env
				env.Program = "etcdctl"
				root = Command(env)
			}
			write := map[string]func() error{
				"bash":       func() error { return root.GenBashCompletionV2(t.env.Stdout, true) },
				"zsh":        func() error { return root.GenZshCompletion(t.env.Stdout) },
				"fish":       func() error { return root.GenFishCompletion(t.env.Stdout, true) },
				"powershell": func() error { return root.GenPowerShellCompletionWithDesc(t.env.Stdout) },
			}[args[0]]
			return fail(exitIO, write())
		}),
	}
}
