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

// settle gives each flag that was set the meaning its row has, in the order of the table.
func (p *parser) settle() *Stop {
	byOld := map[Feature]bool{}
	for i := range table {
		f := &table[i]
		if !p.isSet(f.Name) {
			continue
		}
		v := p.fs.Lookup(f.Name).Value.String()
		var stop *Stop
		switch f.Kind {
		case Live:
			stop = p.settleLive(f, v)
		case Idle:
			p.settleIdle(f)
		case Ignored:
			p.noEffect(f, f.Why)
		case Renamed:
			stop = p.settleRenamed(f, v)
		case Gated:
			stop = p.settleGated(f, v, byOld)
		case Refused:
			stop = p.settleRefused(f, v)
		}
		if stop != nil {
			return stop
		}
	}
	p.c.Gates = p.c.Gates.and(byOld)
	p.idleGates()
	return nil
}

func (p *parser) settleLive(f *Flag, v string) *Stop {
	switch {
	case f.Name == "discovery-fallback" && v == fallbackProxy:
		return refuse(fmt.Errorf("v2 proxy is deprecated, and --discovery-fallback can't be configured as %q; use %q", v, fallbackExit))
	case f.Name == "logger" && v == "capnslog":
		return refuse(errors.New("--logger=capnslog is removed in v3.5; remove the flag or use --logger=zap"))
	case f.Name == "logger" && v != loggerZap:
		return refuse(fmt.Errorf("unknown logger option %q", v))
	}
	return nil
}

// settleIdle names a flag without effect, after etcd's own sentence for the two that etcd warns of.
func (p *parser) settleIdle(f *Flag) {
	switch f.Name {
	case "max-snapshots":
		p.notes.warn("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.")
	case "v2-deprecation":
		p.notes.warn("--v2-deprecation is deprecated and scheduled for removal in v3.8. " +
			"The default value is enforced, ignoring user input.")
	}
	p.noEffect(f, f.Why)
}

func (p *parser) noEffect(f *Flag, reason string) {
	p.notes.warn("flag has no effect", slog.String("flag", f.Name), slog.String("reason", reason))
}

func (p *parser) settleRenamed(f *Flag, v string) *Stop {
	if f.apply != nil {
		f.apply(&p.c, v)
	} else if p.isSet(f.Became) {
		return refuse(fmt.Errorf("cannot set --%s and --%s at the same time, please use --%s only", f.Name, f.Became, f.Became))
	}
	p.notes.warn("flag has a new name", slog.String("flag", f.Name), slog.String("use", f.Became))
	if t := f.target(); t.Kind == Idle {
		p.settleIdle(t)
	}
	return nil
}

func (p *parser) settleGated(f *Flag, v string, byOld map[Feature]bool) *Stop {
	gate := Feature(f.Became)
	if p.c.Gates.IsSet(gate) {
		if p.mild[f.Name] {
			p.noEffect(f, "--feature-gates sets "+f.Became)
			return nil
		}
		on := p.c.Gates.Enabled(gate)
		return refuse(fmt.Errorf("cannot specify both flags: --%s=%s and --feature-gates=%s=%t at the same time, "+
			"please just use --feature-gates=%s=%t", f.Name, v, gate, on, gate, on))
	}
	byOld[gate] = isTrue(v)
	p.notes.warn("flag became a feature gate", slog.String("flag", f.Name),
		slog.String("use", fmt.Sprintf("feature-gates=%s=%s", gate, v)))
	return nil
}

// settleRefused ends the start, unless the flag comes from where etcd 3.7 itself would start.
func (p *parser) settleRefused(f *Flag, v string) *Stop {
	switch {
	case !f.asks(v):
		p.noEffect(f, "its value asks for nothing")
	case p.mild[f.Name]:
		p.noEffect(f, "it "+f.Why)
	default:
		return refuse(fmt.Errorf("--%s=%s %s", f.Name, v, f.Why))
	}
	return nil
}

// setMild sets a flag from a variable or a file and reports whether it did. etcd 3.7 starts with an old name there whatever
// its value is, so for one a wrong value, or the new name beside it, is said and passed over. given reports whether the source
// has a flag.
func (p *parser) setMild(f *Flag, v string, given func(*Flag) bool) (bool, error) {
	old := f.Until != ""
	if old && f.Kind == Renamed && (p.isSet(f.Became) || given(f.target())) {
		p.noEffect(f, "--"+f.Became+" is set")
		return false, nil
	}
	if err := p.fs.Set(f.Name, v); err != nil {
		if !old {
			return false, err
		}
		p.noEffect(f, fmt.Sprintf("its value %q cannot be read: %v", v, err))
		return false, nil
	}
	p.mild[f.Name] = true
	return true, nil
}

func (p *parser) idleGates() {
	for _, g := range gates {
		if g.Idle != "" && p.c.Gates.IsSet(g.Name) {
			p.notes.warn("feature gate has no effect", slog.String("feature-gate", string(g.Name)), slog.String("reason", g.Idle))
		}
	}
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
