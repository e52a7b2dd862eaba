package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"holdfast/util/version"
)

// Sources are where settings come from. What reads the machine is a function, so that Parse itself does not.
type Sources struct {
	Program string   // name in the usage; "" means etcd
	Args    []string // without the program's name
	Environ []string // as os.Environ gives it

	ReadFile    func(path string) ([]byte, error) // for --config-file; nil means os.ReadFile
	DefaultHost func() (string, error)            // address of this machine for others; nil means that it has none
}

// Parse reads the settings and checks them. The notes are to be logged even when an error, always a *Stop, comes with them.
func Parse(src Sources) (Config, Notes, error) {
	p := newParser(src)
	if stop := p.arguments(); stop != nil {
		return Config{}, p.notes, stop
	}
	var stop *Stop
	if path := p.configFile(); path != "" {
		notes := p.notes
		p = newParser(src)
		p.notes = notes
		stop = p.file(path)
	} else {
		stop = p.environment()
	}
	if stop == nil {
		stop = p.settle()
	}
	if stop != nil {
		return Config{}, p.notes, stop
	}
	p.raftTimeouts()
	p.dependentDefaults()
	if err := p.c.validate(&p.notes); err != nil {
		return Config{}, p.notes, refuse(err)
	}
	p.derive()
	p.advise()
	return p.c, p.notes, nil
}

// parser collects settings into a configuration. Each source sets flags in fs, whichever way it spells them.
type parser struct {
	src      Sources
	c        Config
	fs       *flag.FlagSet
	out      bytes.Buffer // what the flag package would print
	notes    Notes
	fromFile bool
	mild     map[string]bool // flags set by a variable or a file, where etcd 3.7 overlooks names it no longer has
}

func newParser(src Sources) *parser {
	if src.Program == "" {
		src.Program = "etcd"
	}
	if src.ReadFile == nil {
		src.ReadFile = os.ReadFile
	}
	p := &parser{src: src, c: Default(), mild: map[string]bool{}}
	p.fs = flag.NewFlagSet(src.Program, flag.ContinueOnError)
	p.fs.SetOutput(&p.out)
	p.fs.Usage = func() { p.out.WriteString(Usage(src.Program) + "\n") }
	for i := range table {
		f := &table[i]
		f.binding().register(p.fs, f.Name, &p.c)
	}
	return p
}

func (p *parser) arguments() *Stop {
	err := p.fs.Parse(p.src.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return &Stop{Code: ExitAsked, Stdout: Help() + "\n", Stderr: p.out.String()}
	case err != nil:
		return &Stop{Code: ExitUsage, Stderr: p.out.String(), cause: err}
	case p.fs.NArg() > 0:
		return refuse(fmt.Errorf("%q is not a valid flag", p.fs.Arg(0)))
	case p.fs.Lookup("version").Value.String() == "true":
		return &Stop{Code: ExitAsked, Stdout: version.Lines()}
	}
	return nil
}

func (p *parser) isSet(name string) bool {
	found := false
	p.fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// raftTimeouts lifts what is below etcd's minimum.
func (p *parser) raftTimeouts() {
	if p.c.RaftReadTimeout < DefaultRaftTimeout {
		p.c.RaftReadTimeout = DefaultRaftTimeout
		p.notes.info(fmt.Sprintf("raft-read-timeout increased to minimum value: %v", DefaultRaftTimeout))
	}
	if p.c.RaftWriteTimeout < DefaultRaftTimeout {
		p.c.RaftWriteTimeout = DefaultRaftTimeout
		p.notes.info(fmt.Sprintf("raft-write-timeout increased to minimum value: %v", DefaultRaftTimeout))
	}
}

// dependentDefaults takes back defaults that another setting makes wrong.
func (p *parser) dependentDefaults() {
	c := &p.c
	if !p.fromFile && p.isSet("listen-client-urls") && !p.isSet("advertise-client-urls") {
		c.AdvertiseClientURLs = nil
	}
	found := c.Discovery.SRV != "" || len(c.Discovery.Endpoints) > 0
	if !p.fromFile && (found || c.Discovery.SRVName != "") && !p.isSet("initial-cluster") {
		c.InitialCluster = ""
	}
	if p.fromFile && found && c.InitialCluster == DefaultInitialCluster {
		c.InitialCluster = ""
	}
	if c.WarnUnary == 0 {
		c.WarnUnary = DefaultWarnUnary
	}
	if p.fromFile && c.CertYears == 0 {
		c.CertYears = DefaultCertYears
	}
	if len(c.AutoCompactionRetention) == 0 {
		c.AutoCompactionRetention = DefaultCompactionRetention
	}
}

// derive fills what etcd works out after its checks: the address to advertise when listening on all of them, the cluster of
// one named member, and the directory.
func (p *parser) derive() {
	c := &p.c
	host := p.defaultHost()
	used := advertise(host, c.ListenPeerURLs, c.AdvertisePeerURLs, DefaultPeerURL)
	if c.Name != DefaultName && c.InitialCluster == DefaultInitialCluster {
		c.InitialCluster = c.initialClusterOf(c.Name)
	}
	used = advertise(host, c.ListenClientURLs, c.AdvertiseClientURLs, DefaultClientURL) || used
	if used {
		p.notes.info("detected default host for advertise", slog.String("host", host))
	}
	if c.DataDir == "" {
		c.DataDir = c.Name + ".etcd"
		p.notes.warn("'data-dir' was empty; using default", slog.String("data-dir", c.DataDir))
	}
}

func (p *parser) defaultHost() string {
	if p.src.DefaultHost == nil {
		return ""
	}
	host, err := p.src.DefaultHost()
	if err != nil {
		p.notes.info("failed to detect default host", slog.Any("error", err))
		return ""
	}
	return host
}
