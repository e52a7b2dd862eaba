package config

import (
	"flag"
	"fmt"
	"strings"
)

// Usage is the short text that follows a command line that cannot be read.
func Usage(program string) string {
	return strings.ReplaceAll(`Usage:

  PROGRAM [flags]
    Run a server, a member of a cluster.

  PROGRAM version
    Print the versions of Holdfast and of the etcd it stands for.

  PROGRAM --version
    Print the version of the etcd it stands for.

  PROGRAM gateway start | grpc-proxy start
    Run what stands in front of members; each has a --help of its own.

  PROGRAM -h | --help
    Print all flags.

  PROGRAM --config-file
    Path of a configuration file, in YAML or JSON. With a file, all other flags and the environment do not count.
    In it durations are integer nanoseconds (600000000000 is 10m), but for --heartbeat-interval and --election-timeout,
    which are milliseconds as on the command line.
`, "PROGRAM", program)
}

// Help lists every flag of etcd 3.7, in etcd's groups and form, and our own.
func Help() string {
	fs := newParser(Sources{}).fs
	var b strings.Builder
	for _, group := range groups {
		fmt.Fprintf(&b, "\n%s:\n", group)
		for i := range table {
			if f := &table[i]; f.Group == group {
				fmt.Fprintf(&b, "  --%s '%s'\n    %s\n", f.Name, f.shown(fs), f.usage())
			}
		}
	}
	b.WriteString("\nThe unsafe flags give up what makes a cluster trustworthy. Use them to rescue data, never to run.\n")
	return b.String()
}

// shown is the default as a person would write it.
func (f *Flag) shown(fs *flag.FlagSet) string {
	if f.Shown != "" {
		return f.Shown
	}
	v := fs.Lookup(f.Name).DefValue
	if f.binding().form != formDuration || v == "0s" {
		return v
	}
	v = strings.Replace(v, "m0s", "m", 1)
	return strings.Replace(v, "h0m", "h", 1)
}

func (f *Flag) usage() string {
	if f.Name != "feature-gates" {
		return f.Usage
	}
	lines := []string{f.Usage}
	for _, g := range gates {
		line := fmt.Sprintf("%s=true|false (%s - default=%t)", g.Name, g.Stage, g.Default)
		if g.Idle != "" {
			line += " No effect here."
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n    ")
}
