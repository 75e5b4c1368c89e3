package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Value types and the alignment of tensor data, as the format numbers them.
const (
	typeUint32  = 4
	typeInt32   = 5
	typeFloat32 = 6
	typeBool    = 7
	typeString  = 8
	typeArray   = 9

	tensorFloat32 = 0
	alignment     = 32
	version       = 3
)

// file collects the two halves of a GGUF file: named metadata and named float32 tensors.
type file struct {
	metadata []byte
	entries  uint64
	tensors  []tensor
}

// tensor is a dense array; the first number of its shape is the one whose elements lie side by side.
type tensor struct {
	name   string
	shape  []int
	values []float32
}

func appendString(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(s)))
	return append(dst, s...)
}

// set appends one metadata entry. A type the format (or this package) does not know is a programming error.
func (f *file) set(key string, value any) {
	f.entries++
	f.metadata = appendString(f.metadata, key)
	f.metadata = appendValue(f.metadata, value)
}

func appendValue(dst []byte, value any) []byte {
	le := binary.LittleEndian
	array := func(element uint32, n int) {
		dst = le.AppendUint32(dst, typeArray)
		dst = le.AppendUint32(dst, element)
		dst = le.AppendUint64(dst, uint64(n))
	}
	switch v := value.(type) {
	case int: // every count and id of a model is an unsigned 32-bit number
		dst = le.AppendUint32(le.AppendUint32(dst, typeUint32), uint32(v))
	case float64:
		dst = le.AppendUint32(le.AppendUint32(dst, typeFloat32), math.Float32bits(float32(v)))
	case bool:
		dst = le.AppendUint32(dst, typeBool)
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case string:
		dst = appendString(le.AppendUint32(dst, typeString), v)
	case []string:
		array(typeString, len(v))
		for _, s := range v {
			dst = appendString(dst, s)
		}
	case []float32:
		array(typeFloat32, len(v))
		dst = appendFloats(dst, v)
	case []int32:
		array(typeInt32, len(v))
		for _, n := range v {
			dst = le.AppendUint32(dst, uint32(n))
		}
	default:
		panic(fmt.Sprintf("gguf: no metadata type for %T", value))
	}
	return dst
}

func appendFloats(dst []byte, values []float32) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

// add appends one tensor; the values must fill its shape.
func (f *file) add(name string, values []float32, shape ...int) {
	size := 1
	for _, n := range shape {
		size *= n
	}
	if size != len(values) {
		panic(fmt.Sprintf("gguf: tensor %s of shape %v has %d values", name, shape, len(values)))
	}
	f.tensors = append(f.tensors, tensor{name: name, shape: shape, values: values})
}

// bytes lays the file out: header, metadata, the table of tensors, then their data, each at an aligned offset.
func (f *file) bytes() []byte {
	le := binary.LittleEndian
	out := append([]byte("GGUF"), version, 0, 0, 0)
	out = le.AppendUint64(out, uint64(len(f.tensors)))
	out = le.AppendUint64(out, f.entries)
	out = append(out, f.metadata...)

	offset := 0
	for _, t := range f.tensors {
		out = appendString(out, t.name)
		out = le.AppendUint32(out, uint32(len(t.shape)))
		for _, n := range t.shape {
			out = le.AppendUint64(out, uint64(n))
		}
		out = le.AppendUint32(out, tensorFloat32)
		out = le.AppendUint64(out, uint64(offset))
		offset = aligned(offset + 4*len(t.values))
	}
	for _, t := range f.tensors {
		out = pad(out)
		out = appendFloats(out, t.values)
	}
	return pad(out)
}

func aligned(n int) int { return (n + alignment - 1) / alignment * alignment }

func pad(b []byte) []byte { return append(b, make([]byte, aligned(len(b))-len(b))...) }
