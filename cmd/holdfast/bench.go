package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/bench"
	"holdfast/config"
)

// runBench runs "bench". Each flag has a variable of the environment, so that make can pass on what it is given.
func runBench(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := benchCommand()
	if err := takeEnvironment(c.Flags(), os.Getenv); err != nil {
		exit(err)
	}
	c.SetArgs(args)
	if err := c.ExecuteContext(ctx); err != nil {
		os.Exit(config.ExitRefused) // cobra has said why
	}
}

func benchCommand() *cobra.Command {
	cfg := bench.Config{Out: os.Stdout}
	var rows, report string
	var list bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measures this program beside etcd, over etcd's protocol",
		Long: `Measures this program beside etcd: both are started in turn, A B A B, and asked the same questions. All rows take about
65 minutes; what was measured is not measured again when it is called again on the same day. The machine should have nothing else to do.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				bench.List(os.Stdout)
				return nil
			}
			if report != "" {
				return bench.Report(cfg.Results, report)
			}
			var err error
			if cfg.Rows, err = regexp.Compile(rows); err != nil {
				return fmt.Errorf("--rows: %w", err)
			}
			if cfg.Rounds < 0 {
				return fmt.Errorf("--rounds=%d: want 0 or more", cfg.Rounds)
			}
			if cfg.Minutes < 0 {
				return fmt.Errorf("--minutes=%d: want 0 or more", cfg.Minutes)
			}
			if cfg.Holdfast == "" {
				if cfg.Holdfast, err = os.Executable(); err != nil {
					return fmt.Errorf("find this program: %w", err)
				}
			}
			return bench.Run(cmd.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&rows, "rows", "", "regular expression over the names of rows; all when empty")
	f.IntVar(&cfg.Rounds, "rounds", 0, "how often each row is measured; 0 is 5 times for what is promised, 3 for heavy rows and others, once for the longest")
	f.IntVar(&cfg.Minutes, "minutes", 0, "measure what can be done in so long, what is promised first; 0 is everything")
	f.StringVar(&cfg.Holdfast, "holdfast", "", "path of the Holdfast that is measured; this program when empty")
	f.StringVar(&cfg.Etcd, "etcd", "", "path of the etcd beside it; Holdfast is measured alone when empty")
	f.StringVar(&cfg.Dir, "dir", "holdfast-bench", "folder for data: on the disk that counts, not in memory")
	f.StringVar(&cfg.Results, "results", "holdfast-bench/results", "folder for what was measured")
	f.StringVar(&cfg.Profiles, "profiles", "", "folder for profiles of this program's CPU while it is measured; none are taken when empty")
	f.BoolVar(&cfg.Keep, "keep", false, "leave prepared data in the folder for the next run")
	f.StringVar(&report, "report", "", "measure nothing: write a page with plots of all results into this folder")
	f.BoolVar(&list, "list", false, "print the rows and what they ask")
	return c
}

// takeEnvironment sets flags to what variables of their names, in capitals, say. What the command line says comes later, and wins.
func takeEnvironment(f *pflag.FlagSet, getenv func(string) string) error {
	var first error
	f.VisitAll(func(flag *pflag.Flag) {
		name := strings.ToUpper(flag.Name)
		if v := getenv(name); v != "" && flag.Name != "list" {
			if err := f.Set(flag.Name, v); err != nil && first == nil {
				first = fmt.Errorf("%s=%s: %w", name, v, err)
			}
		}
	})
	return first
}
