package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// environmentOf is the environment by name; p's notes get what has no name.
func (p *parser) environmentOf() map[string]string {
	env := map[string]string{}
	for _, pair := range p.src.Environ {
		name, v, ok := strings.Cut(pair, "=")
		if !ok {
			p.notes.warn("found invalid environment variable", slog.String("environment-variable", pair))
			continue
		}
		env[name] = v
	}
	return env
}

// configFile is the path of the file that replaces all other settings; "" means that there is none.
func (p *parser) configFile() string {
	if p.c.ConfigFile != "" {
		return p.c.ConfigFile
	}
	for _, pair := range p.src.Environ {
		if path, ok := strings.CutPrefix(pair, byName["config-file"].variable()+"="); ok {
			return path
		}
	}
	return ""
}

// environment sets the flags that have a variable and no place on the command line.
func (p *parser) environment() *Stop {
	env := p.environmentOf()
	if v := env["ETCD_VERSION"]; v != "" { // some images set it, and as a flag it would mean: print and exit
		p.notes.warn("cannot set special environment variable", slog.String("key", "ETCD_VERSION"), slog.String("value", v))
		delete(env, "ETCD_VERSION")
	}
	named := map[string]bool{}
	for _, f := range sortedByName {
		name := f.variable()
		v, given := env[name]
		if given && p.isSet(f.Name) {
			return conflict(name)
		}
		if v == "" {
			continue
		}
		named[name] = true
		set, err := p.setMild(f, v, func(other *Flag) bool { return env[other.variable()] != "" })
		if err != nil {
			return refuse(fmt.Errorf("invalid value %q for %s: %w", v, name, err))
		}
		if !set {
			continue
		}
		if f.secret {
			v = masked
		}
		p.notes.info("recognized and used environment variable", slog.String("variable-name", name), slog.String("variable-value", v))
	}
	for _, pair := range p.src.Environ {
		name, _, _ := strings.Cut(pair, "=")
		_, left := env[name]
		if !left || !strings.HasPrefix(name, "ETCD_") || named[name] {
			continue
		}
		if why := idle[name]; why != "" {
			p.notes.info("environment variable has no effect here", slog.String("environment-variable", name), slog.String("why", why))
		} else {
			p.notes.warn("unrecognized environment variable", slog.String("environment-variable", name))
		}
	}
	return nil
}

// idle are variables that are no flags and do something in etcd, and why they do nothing here.
var idle = map[string]string{
	"ETCD_VERIFY":           "what it has etcd check is always checked",
	"ETCD_UNSUPPORTED_ARCH": "no architecture is refused",
}

// sortedByName is the table in the order in which etcd reads variables, so that the first wrong one is the same.
var sortedByName = func() []*Flag {
	rows := make([]*Flag, len(table))
	for i := range table {
		rows[i] = &table[i]
	}
	slices.SortFunc(rows, func(a, b *Flag) int { return strings.Compare(a.Name, b.Name) })
	return rows
}()
