package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/snapshot"
)

func TestApplyPutsByIdentity(t *testing.T) {
	t.Parallel()
	before := func() snapshot.Spec {
		return snapshot.Spec{
			Organizations: []account.Organization{{Name: "acme"}},
			Projects:      []account.Project{{Organization: "acme", Name: "app"}, {Organization: "other", Name: "app"}},
			Keys:          []account.APIKey{{ID: "key_1", Name: "ci"}, {ID: "key_2", Name: "ci"}},
			Models:        []catalog.Model{{Name: "a"}, {Name: "b"}, {Name: "c"}},
			DefaultPolicy: "careful",
		}
	}
	spec := before()
	after := snapshot.Change{
		Put: snapshot.Spec{
			Organizations: []account.Organization{{Name: "new"}},
			Projects:      []account.Project{{Organization: "other", Name: "app", Labels: map[string]string{"team": "x"}}},
			Keys:          []account.APIKey{{ID: "key_2", Name: "renamed"}},
			Models:        []catalog.Model{{Name: "b", Context: 7}},
		},
		Delete: snapshot.Names{Models: []string{"a", "b", "nobody"}},
	}.Apply(spec)
	want := snapshot.Spec{
		Organizations: []account.Organization{{Name: "acme"}, {Name: "new"}},
		Projects:      []account.Project{{Organization: "acme", Name: "app"}, {Organization: "other", Name: "app", Labels: map[string]string{"team": "x"}}},
		Keys:          []account.APIKey{{ID: "key_1", Name: "ci"}, {ID: "key_2", Name: "renamed"}},
		Models:        []catalog.Model{{Name: "c"}, {Name: "b", Context: 7}}, // deleted first, then put
		DefaultPolicy: "careful",
	}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("after:\n%s", diff)
	}
	if diff := cmp.Diff(before(), spec); diff != "" {
		t.Errorf("the spec itself was changed:\n%s", diff)
	}
	if got := (snapshot.Change{Put: snapshot.Spec{DefaultPolicy: "bold"}}).Apply(spec).DefaultPolicy; got != "bold" {
		t.Errorf("default policy %q", got)
	}
}
