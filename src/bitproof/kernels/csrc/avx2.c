/* AVX2: `vpshufb` looks 32 words up in 16 entries. A table is 16 such pieces T_0 .. T_15, stored as
 * differences D_i = T_i ^ T_(i-1): with x counted down by 16 a step, `vpshufb` gives D_i[x & 15]
 * until x is negative and 0 from then on, so that what is XORed up to there is T_(x >> 4)[x & 15].
 * Words of 128 and more are negative from the start; the upper half of the table sees x ^ 128.
 */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#include <immintrin.h>
#include <string.h>

#include "tables.h"

enum { WIDTH = 128 }; /* pixels in four registers */

/* Store the differences of one plane's 256 entries. */
static inline void subtract_pieces(const uint8_t *table, uint8_t *pieces) {
    for (int i = 0; i < 256; i += 16) {
        __m128i piece = _mm_loadu_si128((const __m128i *)(table + i));
        if (i % 128) /* each half starts anew */
            piece = _mm_xor_si128(piece, _mm_loadu_si128((const __m128i *)(table + i - 16)));
        _mm_storeu_si128((__m128i *)(pieces + i), piece);
    }
}

#define PIECE(entry) \
    _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(pieces + (entry))))
#define LOOK(v)                                                                        \
    low##v = _mm256_xor_si256(low##v, _mm256_shuffle_epi8(low_piece, x##v));           \
    if (planes == 2)                                                                   \
        high##v = _mm256_xor_si256(high##v, _mm256_shuffle_epi8(high_piece, x##v));    \
    x##v = _mm256_subs_epi8(x##v, step);
#define SUM(v)                                                                                  \
    pair[v] = _mm256_add_epi16(pair[v], low##v);                                                \
    odd[v] = _mm256_add_epi16(odd[v], _mm256_srli_epi16(low##v, 8));                            \
    if (planes == 2) {                                                                          \
        pair[8 + v] = _mm256_add_epi16(pair[8 + v], high##v);                                   \
        odd[8 + v] = _mm256_add_epi16(odd[8 + v], _mm256_srli_epi16(high##v, 8));               \
    }
#define WORDS(v) _mm256_loadu_si256((const __m256i *)(x + 32 * (v)))

/* Look WIDTH words up in both planes; pair and odd sum bytes as in vbmi.c. */
static inline __attribute__((always_inline)) void look_up_words(const int planes, const int seven,
                                                                const uint8_t *x,
                                                                const uint8_t *pieces,
                                                                __m256i *pair, __m256i *odd) {
    const __m256i step = _mm256_set1_epi8(16), top = _mm256_set1_epi8(-128);
    __m256i low0 = _mm256_setzero_si256(), low1 = low0, low2 = low0, low3 = low0;
    __m256i high0 = low0, high1 = low0, high2 = low0, high3 = low0;
    for (int half = 0; half < (seven ? 1 : 2); half++) {
        __m256i x0 = WORDS(0), x1 = WORDS(1), x2 = WORDS(2), x3 = WORDS(3);
        if (half) {
            x0 = _mm256_xor_si256(x0, top);
            x1 = _mm256_xor_si256(x1, top);
            x2 = _mm256_xor_si256(x2, top);
            x3 = _mm256_xor_si256(x3, top);
        }
        for (int i = 128 * half; i < 128 * half + 128; i += 16) {
            const __m256i low_piece = PIECE(i), high_piece = PIECE(planes == 2 ? 256 + i : i);
            LOOK(0) LOOK(1) LOOK(2) LOOK(3)
        }
    }
    SUM(0) SUM(1) SUM(2) SUM(3)
}

static void add_sums(uint32_t *sums, __m256i pair, __m256i odd, int shift) {
    const __m256i even = _mm256_sub_epi16(pair, _mm256_slli_epi16(odd, 8));
    uint16_t evens[16], odds[16];
    _mm256_storeu_si256((__m256i *)evens, even);
    _mm256_storeu_si256((__m256i *)odds, odd);
    for (int i = 0; i < 16; i++) {
        sums[2 * i] += (uint32_t)evens[i] << shift;
        sums[2 * i + 1] += (uint32_t)odds[i] << shift;
    }
}

static inline __attribute__((always_inline)) void look_up_tile(
    const int planes, const int seven, const uint8_t *x, const uint8_t *weight, int64_t count,
    const uint8_t *table, int lanes, uint32_t *sums) {
    __m256i pair[16], odd[16]; /* of plane 0 in the first eight, of plane 1 in the others */
    uint8_t pieces[512];
    for (int i = 0; i < 16; i++) pair[i] = odd[i] = _mm256_setzero_si256();
    for (int64_t k = 0; k < count; k++, x += TILE) {
        const uint8_t *row = table + (size_t)weight[k] * 256 * planes;
        for (int plane = 0; plane < planes; plane++)
            subtract_pieces(row + 256 * plane, pieces + 256 * plane);
        look_up_words(planes, seven, x, pieces, pair, odd);
        if (lanes > WIDTH) look_up_words(planes, seven, x + WIDTH, pieces, pair + 4, odd + 4);
    }
    for (int plane = 0; plane < planes; plane++)
        for (int v = 0; v < 8; v++)
            add_sums(sums + 32 * v, pair[8 * plane + v], odd[8 * plane + v], 8 * plane);
}

#define VARIANT(planes, seven)                                                          \
    static __attribute__((noinline)) void tile_##planes##seven(                         \
        const uint8_t *x, const uint8_t *weight, int64_t count, const uint8_t *table,   \
        int lanes, uint32_t *sums) {                                                    \
        look_up_tile(planes, seven, x, weight, count, table, lanes, sums);              \
    }
VARIANT(1, 0) VARIANT(1, 1) VARIANT(2, 0) VARIANT(2, 1)

static void look_up_block(const uint8_t *x, const uint8_t *weight, int64_t count,
                          const uint8_t *table, int planes, int lanes, int seven, uint32_t *sums) {
    if (planes == 1)
        (seven ? tile_11 : tile_10)(x, weight, count, table, lanes, sums);
    else
        (seven ? tile_21 : tile_20)(x, weight, count, table, lanes, sums);
}

static void remap_row(uint8_t *to, const uint8_t *from, int64_t count, const uint8_t *table) {
    const __m256i step = _mm256_set1_epi8(16), top = _mm256_set1_epi8(-128);
    uint8_t pieces[256];
    int64_t i = 0;
    if (count >= 64) subtract_pieces(table, pieces);
    for (; i + 64 <= count; i += 64) {
        __m256i x0 = _mm256_loadu_si256((const __m256i *)(from + i));
        __m256i x1 = _mm256_loadu_si256((const __m256i *)(from + i + 32));
        __m256i y0 = _mm256_xor_si256(x0, top), y1 = _mm256_xor_si256(x1, top);
        __m256i r0 = _mm256_setzero_si256(), r1 = r0;
        for (int entry = 0; entry < 128; entry += 16) {
            const __m256i lower = PIECE(entry), upper = PIECE(128 + entry);
            r0 = _mm256_xor_si256(r0, _mm256_shuffle_epi8(lower, x0));
            r0 = _mm256_xor_si256(r0, _mm256_shuffle_epi8(upper, y0));
            r1 = _mm256_xor_si256(r1, _mm256_shuffle_epi8(lower, x1));
            r1 = _mm256_xor_si256(r1, _mm256_shuffle_epi8(upper, y1));
            x0 = _mm256_subs_epi8(x0, step);
            x1 = _mm256_subs_epi8(x1, step);
            y0 = _mm256_subs_epi8(y0, step);
            y1 = _mm256_subs_epi8(y1, step);
        }
        _mm256_storeu_si256((__m256i *)(to + i), r0);
        _mm256_storeu_si256((__m256i *)(to + i + 32), r1);
    }
    for (; i < count; i++) to[i] = table[from[i]];
}

/* Pairs of products of 16 bits are exact sums of 32; those of 8 bits would saturate. A register
 * holds four filters, two pairs of each. */
static inline __attribute__((always_inline)) void multiply_two(
    const uint8_t *first, const uint8_t *second, const int64_t *runs, int64_t n_runs, int64_t quads,
    const int8_t *weight, int64_t step, int32_t *sums, int64_t stride) {
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (int64_t r = 0; r < n_runs; r++)
        for (int64_t at = runs[r]; at < runs[r] + 4 * quads; at += 4, weight += step) {
            int32_t four, other;
            memcpy(&four, first + at, 4);
            memcpy(&other, second + at, 4);
            const __m256i x = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
            const __m256i y = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(other)));
#define FOUR_FILTERS(v)                                                                          \
    {                                                                                            \
        const __m256i w =                                                                        \
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(weight + 16 * (v))));         \
        a##v = _mm256_add_epi32(a##v, _mm256_madd_epi16(x, w));                                  \
        b##v = _mm256_add_epi32(b##v, _mm256_madd_epi16(y, w));                                  \
    }
            FOUR_FILTERS(0) FOUR_FILTERS(1) FOUR_FILTERS(2) FOUR_FILTERS(3)
        }
    /* Sums of neighbours lie in the order 0 1 4 5 2 3 6 7. */
#define STORE_SUMS(to, left, right)                                                              \
    _mm256_storeu_si256((__m256i *)(to),                                                         \
                        _mm256_permute4x64_epi64(_mm256_hadd_epi32(left, right), 0xd8))
    STORE_SUMS(sums + stride, b0, b1); /* first: without a second window, the stride is 0 */
    STORE_SUMS(sums + stride + 8, b2, b3);
    STORE_SUMS(sums, a0, a1);
    STORE_SUMS(sums + 8, a2, a3);
}

static void multiply(const uint8_t *const *from, const int64_t *runs, int64_t n_runs, int64_t quads,
                     const int8_t *weight, int vectors, int pixels, int32_t *sums) {
    for (int v = 0; v < vectors; v++)
        for (int p = 0; p < pixels; p += 2) /* there is room for one more: from[pixels] is read */
            multiply_two(from[p], from[p + 1], runs, n_runs, quads, weight + 64 * v, 64 * vectors,
                         sums + (p * vectors + v) * 16, p + 1 < pixels ? 16 * vectors : 0);
}

#define sum_bytes sum_each
#define multiply_channels multiply_each
#define write_sums write_each
#define turn turn_numbers
#define copy_run copy_steps
#define remap_short remap_each
#include "level.h"

const Level bitproof_level_avx2 = FUNCTIONS;

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
