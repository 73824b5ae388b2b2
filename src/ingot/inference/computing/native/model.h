// What a decoder and a pass are made of, as Python lays them out (`layout.py`: the two must agree).
//
// Letters: t new tokens, n segments, m pages of the longest table, w wanted rows, p pages; d model width,
// h query heads, k key heads, e head width, f feed-forward width, v vocabulary.

#pragma once

#include "attention.h"

namespace ingot {

struct Norm {
    const float *weight, *bias;
    long kind;  // 0 none, 1 by the root mean square, 2 by mean and deviation
    float epsilon;

    void operator()(const float* x, float* y, long d) const {
        double mean = 0;
        if (kind == 2) {
            for (long i = 0; i < d; ++i) mean += x[i];
            mean /= d;
        }
        const float middle = static_cast<float>(mean);
        Floats squares = all(0.0f);
        long i = 0;
        for (; i + LANES <= d; i += LANES) {
            const Floats off = load<Floats>(x + i) - all(middle);
            squares = fused(off, off, squares);
        }
        float rest = 0;
        for (; i < d; ++i) rest += (x[i] - middle) * (x[i] - middle);
        const float unit = 1 / std::sqrt((sum(squares) + rest) / d + epsilon);
        for (i = 0; i + LANES <= d; i += LANES) {
            Floats made = (load<Floats>(x + i) - all(middle)) * all(unit) * load<Floats>(weight + i);
            if (bias) made += load<Floats>(bias + i);
            store(y + i, made);
        }
        for (; i < d; ++i) y[i] = (x[i] - middle) * unit * weight[i] + (bias ? bias[i] : 0);
    }
};

struct Layer {
    Norm attention_norm, attention_output_norm, feed_forward_norm, feed_forward_output_norm;
    Norm query_norm, key_norm;
    Matrix heads, output, up, down;  // heads: query, key, value; up: gate and up in turn, where gated
    const float *cosine, *sine;      // [places, turned], or null
    const float *slopes, *sinks;     // [h], or null
    long window;                     // 0 is none
};

enum Activation : long { SILU, GELU, GELU_TANH, RELU, SQUARED_RELU };

struct Model {
    long layers, vocabulary, width, heads, key_heads, head_width, feed_forward, turned, places;
    long activation, gated, parallel, joint_norm, cache_kind, embedding_kind;
    float score_scale, score_cap, embedding_scale, logit_cap;  // caps: 0 is none
    const void* embedding;        // [v, d]
    const float* embedding_rows;  // int8: [v] scales
    const float* positions;       // [places, d] that are added, or null
    const Layer* layer;
    Norm norm;
    Matrix head;
};

struct Pass {
    long t, n, m, w, pages;
    const int64_t *tokens, *positions;
    const int32_t *starts, *stored, *tables;
    const int64_t* wanted;
    char *const *keys, *const *values;  // per layer [p, k, PAGE, e]
    float* logits;                      // [w, v]
};

// The feed-forward layer's activation.
inline Floats activated(Floats x, long activation) {
    if (activation == SILU) return x / (all(1.0f) + exponential(-x));
    if (activation == GELU) return x * normal_share(x);
    if (activation == GELU_TANH) {
        const Floats inner = all(0.7978845608f) * fused(x * x * x, all(0.044715f), x);
        return all(0.5f) * x * (all(1.0f) + tanh(inner));
    }
    const Floats kept = x < all(0.0f) ? all(0.0f) : x;  // not a number stays so
    return activation == RELU ? kept : kept * kept;
}

// The first thing that would be read or written outside its place: 0 none, 1 token, 2 position, 3 segment,
// 4 page, 5 wanted.
inline int fault(const Model& model, const Pass& pass) {
    for (long i = 0; i < pass.t; ++i) {
        if (pass.tokens[i] < 0 || pass.tokens[i] >= model.vocabulary) return 1;
        if (pass.positions[i] < 0 || pass.positions[i] >= model.places) return 2;
    }
    if (pass.starts[0] != 0 || pass.starts[pass.n] != pass.t) return 3;
    for (long i = 0; i < pass.n; ++i) {
        if (pass.starts[i] > pass.starts[i + 1] || pass.stored[i] < 0) return 3;
        const long end = pass.stored[i] + pass.starts[i + 1] - pass.starts[i];
        if (end > pass.m * PAGE) return 4;
        for (long j = 0; j * PAGE < end; ++j)
            if (pass.tables[i * pass.m + j] < 0 || pass.tables[i * pass.m + j] >= pass.pages) return 4;
    }
    for (long i = 0; i < pass.w; ++i)
        if (pass.wanted[i] < 0 || pass.wanted[i] >= pass.t) return 5;
    return 0;
}

}  // namespace ingot
