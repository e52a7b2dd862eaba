package config

import (
	"errors"
	"fmt"
	"log/slog"
)

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
