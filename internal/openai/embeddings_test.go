package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func vectors(tb testing.TB, body []byte) (numbers [][]float32) {
	tb.Helper()
	var list struct {
		Data []struct{ Embedding json.RawMessage }
	}
	if err := json.Unmarshal(body, &list); err != nil {
		tb.Fatal(err)
	}
	for _, d := range list.Data {
		var v []float32
		if d.Embedding[0] == '[' {
			if err := json.Unmarshal(d.Embedding, &v); err != nil {
				tb.Fatal(err)
			}
		} else {
			var raw []byte
			if err := json.Unmarshal(d.Embedding, &raw); err != nil {
				tb.Fatal(err)
			}
			for i := 0; i+4 <= len(raw); i += 4 {
				v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
			}
		}
		numbers = append(numbers, v)
	}
	return numbers
}

func TestEmbeddingsAsConvertsRealOnes(t *testing.T) {
	for _, engine := range []string{"ollama", "node-llama-cpp"} {
		for name, other := range map[string]string{"embeddings": "base64", "embeddings-base64": "float"} {
			_, body := fixture(t, engine+"/"+name)
			want := vectors(t, body)
			if len(want) == 0 || len(want[0]) != 128 {
				t.Fatalf("%s: %d vectors", name, len(want))
			}
			converted, err := EmbeddingsAs(body, other)
			if err != nil {
				t.Fatal(err)
			}
			if string(converted) == string(body) {
				t.Errorf("%s as %s: nothing changed", name, other)
			}
			if diff := cmp.Diff(want, vectors(t, converted)); diff != "" {
				t.Errorf("%s as %s: %s", name, other, diff)
			}
			again, err := EmbeddingsAs(converted, other)
			if err != nil || &again[0] != &converted[0] {
				t.Errorf("%s as %s twice: changed again, %v", name, other, err)
			}
		}
	}
}

func TestEmbeddingsAsByteForByte(t *testing.T) {
	const one = `AACAPw==`     // 1
	const two = `AACAPwAAAMA=` // 1, -2
	for _, c := range []struct{ body, format, want string }{
		{
			` {"x":1.10, "data":[ {"embedding" : [1.0 , -2e0 ],"index":0} , {"embedding":[1]}],"model":"m" } `, "base64",
			` {"x":1.10, "data":[ {"embedding" : "` + two + `","index":0} , {"embedding":"` + one + `"}],"model":"m" } `,
		},
		{`{"data":[{"embedding":"` + two + `"},{"embedding":[5]}]}`, "float", `{"data":[{"embedding":[1,-2]},{"embedding":[5]}]}`},
		{`{"data":[{"embedding":"AACAPwAAAMA="}]}`, "base64", `{"data":[{"embedding":"AACAPwAAAMA="}]}`},
		{`{"data":[{"embedding":[]},{"embedding":null},5,{}]}`, "base64", `{"data":[{"embedding":""},{"embedding":null},5,{}]}`},
		{`{"data":[{"embedding":""}]}`, "float", `{"data":[{"embedding":[]}]}`},
		{`{"data":[{"embedding":"AACAPw=\u003d"}]}`, "float", `{"data":[{"embedding":[1]}]}`},
		{`{"data":null,"other":[{"embedding":[1]}]}`, "base64", `{"data":null,"other":[{"embedding":[1]}]}`},
		{`not even JSON`, "", `not even JSON`},
	} {
		got, err := EmbeddingsAs([]byte(c.body), c.format)
		if err != nil || string(got) != c.want {
			t.Errorf("%s as %s\ngot  %s, %v\nwant %s", c.body, c.format, got, err, c.want)
		}
	}
}

func TestEmbeddingsAsRefusesNonsense(t *testing.T) {
	nan := base64.StdEncoding.EncodeToString([]byte{0, 0, 0xc0, 0x7f})
	for _, c := range []struct{ body, format string }{
		{``, "float"},
		{`{"data":[`, "float"},
		{`{"data":[{"embedding":`, "base64"},
		{`{"data":[{"embedding":[1`, "base64"},
		{`{"data":[{},`, "base64"},
		{`{"data":[{"embedding":["1"]}]}`, "base64"},
		{`{"data":[{"embedding":[[1]]}]}`, "base64"},
		{`{"data":[{"embedding":[null]}]}`, "base64"},
		{`{"data":[{"embedding":[1e39]}]}`, "base64"},
		{`{"data":[{"embedding":"AACAP"}]}`, "float"},
		{`{"data":[{"embedding":"AAA="}]}`, "float"},
		{`{"data":[{"embedding":"` + nan + `"}]}`, "float"},
		{`{"data":[]} x`, "float"},
	} {
		_, err := EmbeddingsAs([]byte(c.body), c.format)
		var m *MalformedError
		if !errors.As(err, &m) {
			t.Errorf("%s as %s: %v", c.body, c.format, err)
		}
	}
}

func TestEmbeddingsSurviveTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOf(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32)).Draw(rt, "vector")
		body, err := json.Marshal(map[string]any{"data": []any{map[string]any{"embedding": want}}})
		if err != nil {
			rt.Fatal(err)
		}
		packed, err := EmbeddingsAs(body, "base64")
		if err != nil {
			rt.Fatal(err)
		}
		unpacked, err := EmbeddingsAs(packed, "float")
		if err != nil {
			rt.Fatal(err)
		}
		for _, text := range [][]byte{packed, unpacked} {
			got := vectors(t, text)[0]
			if len(got) != len(want) {
				rt.Fatalf("%d numbers, want %d", len(got), len(want))
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					rt.Fatalf("%v became %v in %s", want[i], got[i], text)
				}
			}
		}
	})
}

func BenchmarkEmbeddingsAs(b *testing.B) {
	vector := make([]float32, 1536)
	for i := range vector {
		vector[i] = float32(math.Sin(float64(i))) / 40
	}
	floats, err := json.Marshal(map[string]any{"data": []any{map[string]any{"embedding": vector}}})
	if err != nil {
		b.Fatal(err)
	}
	packed, err := EmbeddingsAs(floats, "base64")
	if err != nil {
		b.Fatal(err)
	}
	for format, body := range map[string][]byte{"base64": floats, "float": packed} {
		b.Run(format, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EmbeddingsAs(body, format); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
