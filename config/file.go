package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// fileKeys are the places of a file, as paths of keys joined by dots, and the flag each sets. Two belong to no flag, and one
// spells a flag differently.
var fileKeys = func() map[string]*Flag {
	keys := map[string]*Flag{"experimental-snapshot-catch-up-entries": byName["experimental-snapshot-catchup-entries"]}
	for i := range table {
		if f := &table[i]; f.file != noFile {
			keys[f.place()] = f
		}
	}
	for i := range fileOnly {
		keys[fileOnly[i].place()] = &fileOnly[i]
	}
	return keys
}()

// place is where a file has the flag's value.
func (f *Flag) place() string {
	if f.file == "" {
		return f.Name
	}
	return f.file
}

// fileMaps are the prefixes of places: keys whose values are maps.
var fileMaps = func() map[string]bool {
	prefixes := map[string]bool{}
	for place := range fileKeys {
		for i, c := range place {
			if c == '.' && !strings.HasPrefix(place, "test.") {
				prefixes[place[:i]] = true
			}
		}
	}
	return prefixes
}()

// file reads all settings from a file. Flags and variables then do not count, as in etcd.
func (p *parser) file(path string) *Stop {
	p.fromFile = true
	for i := range fileOnly {
		fileOnly[i].bind.register(p.fs, fileOnly[i].Name, &p.c)
	}
	content, err := p.src.ReadFile(path)
	if err != nil {
		return refuse(err)
	}
	values, err := flatten(content)
	if err != nil {
		return refuse(fmt.Errorf("read configuration file %s: %w", path, err))
	}
	for _, place := range slices.Sorted(maps.Keys(values)) {
		if stop := p.fileValue(place, values); stop != nil {
			return stop
		}
	}
	p.c.ConfigFile = path
	p.notes.info("loaded server configuration, other configuration command line flags and environment variables "+
		"will be ignored if provided", slog.String("path", path))
	return nil
}

// flatten turns the file into values by place. A key without a value is as one that is not there.
func flatten(content []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSON(content)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.UseNumber() // nanoseconds do not fit into a float
	var top any
	if err := dec.Decode(&top); err != nil {
		return nil, err
	}
	values := map[string]any{}
	if top == nil {
		return values, nil
	}
	tree, ok := top.(map[string]any)
	if !ok {
		return nil, errors.New("it is not a map of keys and values")
	}
	return values, flattenInto(values, "", tree)
}

func flattenInto(values map[string]any, prefix string, tree map[string]any) error {
	for key, v := range tree {
		place := prefix + strings.ToLower(key) // etcd takes a key in any case
		sub, isMap := v.(map[string]any)
		switch {
		case v == nil:
		case isMap && fileMaps[place]:
			if err := flattenInto(values, place+".", sub); err != nil {
				return err
			}
		case fileMaps[place]:
			return fmt.Errorf("invalid %s", place)
		default:
			values[place] = v
		}
	}
	return nil
}

func (p *parser) fileValue(place string, values map[string]any) *Stop {
	f, ok := fileKeys[place]
	if !ok {
		p.notes.warn("configuration key has no effect", slog.String("key", place), slog.String("reason", whyNot(place)))
		return nil
	}
	v, err := f.binding().form.text(values[place])
	switch {
	case err != nil && f.Until != "":
		p.noEffect(f, err.Error())
		return nil
	case err != nil:
		return refuse(fmt.Errorf("configuration key %s: %w", place, err))
	case f.Name == "initial-cluster-state":
		p.c.InitialClusterState = cmp.Or(v, ClusterNew) // a wrong one is found later, with etcd's words for a file
		return nil
	case v == "" && keepsDefault(f):
		return nil
	}
	given := func(other *Flag) bool { return values[other.place()] != nil }
	if _, err := p.setMild(f, v, given); err != nil {
		return refuse(fmt.Errorf("unexpected error setting up %s: %w", place, err))
	}
	return nil
}

// keepsDefault are the flags that an empty text in a file leaves alone, as in etcd.
func keepsDefault(f *Flag) bool {
	return f.Name == "cors" || f.Name == "host-whitelist"
}

// whyNot says what is wrong with a key that no place has.
func whyNot(place string) string {
	f, ok := byName[place]
	switch {
	case !ok:
		return "there is no such key"
	case f.file == noFile:
		return "it can only be a flag or a variable"
	}
	return "its place is " + f.file
}

// text is a value of a file as its flag takes it.
func (f form) text(v any) (string, error) {
	switch f {
	case formNumber:
		if n, ok := v.(json.Number); ok {
			return n.String(), nil
		}
		return "", fmt.Errorf("want a number, got %s", show(v))
	case formTruth:
		if b, ok := v.(bool); ok {
			return fmt.Sprint(b), nil
		}
		return "", fmt.Errorf("want true or false, got %s", show(v))
	case formDuration:
		if n, ok := v.(json.Number); ok {
			if _, err := n.Int64(); err == nil {
				return n.String() + "ns", nil
			}
		}
		return "", fmt.Errorf("want integer nanoseconds (600000000000 is 10m), got %s", show(v))
	case formList:
		return listText(v)
	}
	return scalarText(v)
}

// scalarText takes numbers and truth values as the text they were written as: `1`, and `yes` as true.
func scalarText(v any) (string, error) {
	switch v.(type) {
	case string, json.Number, bool:
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("want text, got %s", show(v))
}

func listText(v any) (string, error) {
	list, ok := v.([]any)
	if !ok {
		return "", fmt.Errorf("want a list, got %s", show(v))
	}
	texts := make([]string, len(list))
	for i, item := range list {
		s, err := scalarText(item)
		if err != nil {
			return "", err
		}
		texts[i] = s
	}
	return strings.Join(texts, ","), nil
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	return string(b)
}
