package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// rewrite is the flag of the datadriven package, which every script of the repository uses.
func rewriting() bool {
	f := flag.Lookup("rewrite")
	return f != nil && f.Value.String() == "true"
}

// Goal: docs/flags.md says what the table says. Method: it is generated; -rewrite writes it.
func TestDocs(t *testing.T) {
	const path = "../docs/flags.md"
	want := document()
	if rewriting() {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says; run go test ./config -run TestDocs -rewrite", path)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Flags: where Holdfast differs from etcd

The server takes etcd 3.7's flags, ` + "`ETCD_*`" + ` variables and configuration file with etcd's meaning; ` + "`--help`" + ` lists
them. This page has what differs. It is generated from the table in ` + "`config/`" + `: run ` + "`go test ./config -run TestDocs -rewrite`" + `.

## Defaults

| flag | etcd 3.7 | here |
|---|---|---|
| ` + "`--quota-backend-bytes`" + ` | 0 means 2 GiB, above 8 GiB warns | 0 means 100 GiB, above that warns |

## Holdfast's own

Each has a variable and a key in the file too, formed as etcd forms its own.

| flag | is |
|---|---|
`)
	for _, f := range Table() {
		if f.Since == own {
			fmt.Fprintf(&b, "| `--%s` | %s |\n", f.Name, strings.ReplaceAll(f.Usage, "\n", " "))
		}
	}
	b.WriteString(`
## Accepted without effect

Flags of etcd 3.7 that tune what Holdfast does not have. The value is checked, and the start logs each once.

| flag | why |
|---|---|
`)
	for _, f := range Table() {
		if f.Kind == Idle {
			fmt.Fprintf(&b, "| `--%s` | %s |\n", f.Name, f.Why)
		}
	}
	b.WriteString("\nFeature gates of the same kind:\n\n| gate | why |\n|---|---|\n")
	for _, g := range AllGates() {
		if g.Idle != "" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", g.Name, g.Idle)
		}
	}
	b.WriteString(`
## Old names that act

etcd 3.7 refuses these on the command line. Here they do what they became, and the start logs the new name. An old and the new
name together on the command line end the start, as in etcd 3.6; in variables and files the new one wins.

| flag | etcd | became |
|---|---|---|
`)
	for _, f := range Table() {
		switch f.Kind {
		case Renamed:
			fmt.Fprintf(&b, "| `--%s` | %s | `--%s` |\n", f.Name, f.versions(), f.Became)
		case Gated:
			fmt.Fprintf(&b, "| `--%s` | %s | `--feature-gates=%s=...` |\n", f.Name, f.versions(), f.Became)
		}
	}
	b.WriteString(`
` + "`--debug` sets the level to debug, whatever `--log-level` says." + ` In a file, ` + "`experimental-snapshot-catch-up-entries`" + ` is one of
them too.

## Old names that are ignored

| flag | etcd | why |
|---|---|---|
`)
	for _, f := range Table() {
		if f.Kind == Ignored {
			fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, f.versions(), f.Why)
		}
	}
	b.WriteString(`
## Old names that end the start

They ask for what etcd 3.7 no longer does. A value that asks for nothing (` + "`--enable-v2=false`, `--proxy=off`, an empty text" + `) is
logged and passed over. So is any value in a variable or a file, because etcd 3.7 starts with it.

| flag | etcd | it |
|---|---|---|
`)
	for _, f := range Table() {
		if f.Kind == Refused {
			fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, f.versions(), f.Why)
		}
	}
	b.WriteString(`
` + "`--discovery-fallback=proxy` and `--logger=capnslog`" + ` end the start as in etcd 3.7.

## Smaller differences

- An unknown ` + "`ETCD_*`" + ` variable is named without its value, and the values of ` + "`ETCD_DISCOVERY_USER` and `ETCD_DISCOVERY_PASSWORD`" + `
  are not logged.
- A key of a configuration file that is unknown or in the wrong place is named in the log; etcd says nothing.
- A number or a truth value where a file wants text is taken as text; etcd refuses ` + "`auto-compaction-retention: 1`" + ` without quotes.
- A file's value of the wrong form ends the start with a sentence that names the key and the form.
- A negative ` + "`--auto-compaction-retention`" + `, or one of more hours than a clock can count, ends the start; a duration with
  ` + "`--auto-compaction-mode=revision`" + ` counts as its nanoseconds, as in etcd, and is warned of.
- An unknown ` + "`--log-level`" + ` ends the start with status 1 and a sentence; etcd panics.
- Wrong ` + "`--cipher-suites` and `--auto-compaction-retention`" + ` are found with the other flags, before anything is opened.
- The warning about HTTP and gRPC on one port is not given: gRPC has its own transport here and does not go through the HTTP server.
- The log has no stack traces in error lines.
- ` + "`--force-new-cluster`" + ` keeps the whole log of the member, also what it does not know to be committed; etcd drops that.
- A member without data that its cluster remembers at work is refused with ` + "`--initial-cluster-state=existing`" + ` too, not only with ` + "`new`" + `.
- ` + "`--discovery-srv`" + ` takes targets whose names do not resolve as members; etcd leaves them out.
`)
	return b.String()
}

// versions are etcd's versions that have the flag.
func (f *Flag) versions() string {
	switch f.Until {
	case "":
		return f.Since + " to 3.7"
	case f.Since:
		return f.Since
	}
	return f.Since + " to " + f.Until
}
