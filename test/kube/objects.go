package kube

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one of the three kinds of object in the script.
type kind struct {
	resource   schema.GroupVersionResource
	apiVersion string
	kind       string
	custom     bool   // defined by our CRD: has a status of its own and counts generations
	direct     bool   // served without the watch cache
	keyPrefix  string // where kube-apiserver keeps the script's objects in the store
}

const (
	group        = "holdfast.example"
	fieldManager = "script"
	// stepAnnotation holds the number of the state an object is in. Every write of the script makes a new one, so
	// that an observer can tell which write it sees.
	stepAnnotation = group + "/step"
	finalizer      = group + "/release"
)

var kinds = []*kind{
	{resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, apiVersion: "v1", kind: "ConfigMap",
		keyPrefix: "/registry/configmaps/load-"},
	{resource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, apiVersion: "v1", kind: "Secret",
		direct: true, keyPrefix: "/registry/secrets/load-"},
	{resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}, apiVersion: group + "/v1",
		kind: "Widget", custom: true, keyPrefix: "/registry/" + group + "/widgets/load-"},
}

var namespaces = []string{"load-0", "load-1", "load-2", "load-3"}

var (
	namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	crdResource       = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

func namespaceObject(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
}

// crdObject defines the kind Widget: a spec with a default value, and a status behind its own path.
func crdObject() *unstructured.Unstructured {
	str := map[string]any{"type": "string"}
	num := map[string]any{"type": "integer"}
	schemaOf := func(properties map[string]any) map[string]any {
		return map[string]any{"type": "object", "properties": properties}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "widgets." + group},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced",
			"names": map[string]any{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": schemaOf(map[string]any{
					"spec": schemaOf(map[string]any{
						"pad": str, "racer-0": str, "racer-1": str,
						"size": map[string]any{"type": "integer", "default": int64(3)},
					}),
					"status": schemaOf(map[string]any{"step": num}),
				})},
			}},
		},
	}}
}

// identity names an object of the script.
type identity struct {
	kind      *kind
	namespace string
	name      string
}

func (id identity) String() string { return id.kind.resource.Resource + "/" + id.key() }

// key is the identity within a kind, as client-go writes it.
func (id identity) key() string { return id.namespace + "/" + id.name }

// base returns the object with nothing but its name.
func (id identity) base() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": id.kind.apiVersion, "kind": id.kind.kind,
		"metadata": map[string]any{"namespace": id.namespace, "name": id.name},
	}}
}

// content returns the object in state step: everything in it follows from its identity and that number.
func (id identity) content(step int) *unstructured.Unstructured {
	obj := id.base()
	obj.SetAnnotations(map[string]string{stepAnnotation: strconv.Itoa(step)})
	id.setPayload(obj, "pad", pad(id.String(), step))
	return obj
}

// setPayload writes one field of what the kind carries: data of configmaps and secrets, spec of widgets.
func (id identity) setPayload(obj *unstructured.Unstructured, field, value string) {
	switch {
	case id.kind.custom:
		set(obj, value, "spec", field)
	case id.kind.direct: // a secret
		set(obj, base64.StdEncoding.EncodeToString([]byte(value)), "data", field)
	default:
		set(obj, value, "data", field)
	}
}

// payload reads what setPayload wrote.
func (id identity) payload(obj *unstructured.Unstructured, field string) string {
	section := "data"
	if id.kind.custom {
		section = "spec"
	}
	value, _, _ := unstructured.NestedString(obj.Object, section, field) // absent reads as empty
	if id.kind.direct {
		raw, _ := base64.StdEncoding.DecodeString(value) // the API server accepts nothing else
		return string(raw)
	}
	return value
}

// set writes a string deep in obj; the path exists or can be made, because obj is ours.
func set(obj *unstructured.Unstructured, value string, path ...string) {
	if err := unstructured.SetNestedField(obj.Object, value, path...); err != nil {
		panic(fmt.Sprintf("kube: set %s of %v: %v", strings.Join(path, "."), obj.Object, err))
	}
}

// pad returns text of 20 to about 2,000 bytes that follows from its arguments.
func pad(name string, step int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, step))
	text := hex.EncodeToString(sum[:10])
	return strings.Repeat(text, 1+int(sum[10])*int(sum[11])/650)
}

// stepOf reads the state an object is in: the annotation, or the status, which the annotation cannot follow, or the
// number of writes of two racers.
func stepOf(id identity, obj *unstructured.Unstructured) int {
	step, _ := strconv.Atoi(obj.GetAnnotations()[stepAnnotation]) // absent reads as 0
	if status, ok, _ := unstructured.NestedInt64(obj.Object, "status", "step"); ok {
		step = max(step, int(status))
	}
	for _, racer := range racerFields {
		n, _ := strconv.Atoi(id.payload(obj, racer))
		step += n
	}
	return step
}

// fingerprint returns a hash of all that must be equal on both sides: not the identity, versions and times that the
// API server draws, and of two racers only how far they got together.
func fingerprint(id identity, obj *unstructured.Unstructured) string {
	text, err := json.Marshal(normal(id, obj))
	if err != nil {
		panic(fmt.Sprintf("kube: write %v as JSON: %v", obj.Object, err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// normal returns a copy of the object without what differs between two runs of the same script.
func normal(id identity, obj *unstructured.Unstructured) map[string]any {
	step := stepOf(id, obj)
	c := obj.DeepCopy()
	meta := maps.Clone(c.Object["metadata"].(map[string]any))
	for _, drawn := range []string{"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"} {
		if _, ok := meta[drawn]; ok {
			meta[drawn] = "set"
		}
	}
	if managed, ok := meta["managedFields"].([]any); ok {
		for _, entry := range managed {
			delete(entry.(map[string]any), "time")
		}
		// They are ordered by time, and two writes in one second may stand either way round.
		slices.SortFunc(managed, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	c.Object["metadata"] = meta
	raced := false
	for _, racer := range racerFields {
		if id.payload(c, racer) != "" {
			id.setPayload(c, racer, "raced")
			raced = true
		}
	}
	if raced {
		c.Object["raced"] = step
	}
	return c.Object
}

// racerFields are the fields in which two racing clients count their writes.
var racerFields = []string{"racer-0", "racer-1"}
