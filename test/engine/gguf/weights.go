package gguf

import "math/rand/v2"

// source draws the random weights of one model.
type source struct{ *rand.Rand }

func newSource(seed uint64) source { return source{rand.New(rand.NewPCG(seed, 0x5ba4e))} }

// normal returns n values around 0 with standard deviation deviation.
func (s source) normal(n int, deviation float64) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(s.NormFloat64() * deviation)
	}
	return values
}

// constant returns n equal values.
func constant(n int, value float32) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = value
	}
	return values
}
