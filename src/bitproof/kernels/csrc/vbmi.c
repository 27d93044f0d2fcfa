/* AVX-512 VBMI: `vpermi2b` looks 64 words up in 128 entries at once, so a weight's table of 256
 * entries is four registers a plane. Bytes are summed as 16-bit pairs: `pair` adds both bytes of a
 * lane, `odd` the upper one; even = pair - 256 * odd modulo 2**16, exact for up to 257 terms.
 */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")
#endif
#include <immintrin.h>
#include <string.h>

#include "tables.h"

enum { AHEAD = 4 }; /* weights whose tables are fetched early: most lie in the second-level cache */

static inline __attribute__((always_inline)) __m512i look_up(__m512i x, __mmask64 high, __m512i t0,
                                                             __m512i t1, __m512i t2, __m512i t3,
                                                             int seven) {
    const __m512i lower = _mm512_permutex2var_epi8(t0, x, t1);
    /* Two look-ups and a blend are faster than look-ups that merge under a mask. */
    if (seven) return lower;
    return _mm512_mask_blend_epi8(high, lower, _mm512_permutex2var_epi8(t2, x, t3));
}

static inline __attribute__((always_inline)) void add_sums(uint32_t *sums, __m512i pair,
                                                           __m512i odd, int shift) {
    const __m512i even = _mm512_sub_epi16(pair, _mm512_slli_epi16(odd, 8));
    const __m512i low = _mm512_unpacklo_epi16(even, odd);  /* pixels 0..7, 16..23, 32.., 48.. */
    const __m512i high = _mm512_unpackhi_epi16(even, odd); /* pixels 8..15, 24..31, ... */
    const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    const __m512i halves[2] = {_mm512_permutex2var_epi64(low, first, high),
                               _mm512_permutex2var_epi64(low, second, high)};
    for (int half = 0; half < 2; half++) {
        uint32_t *to = sums + 32 * half;
        __m512i left = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves[half]));
        __m512i right = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(halves[half], 1));
        left = _mm512_add_epi32(_mm512_slli_epi32(left, shift), _mm512_loadu_si512(to));
        right = _mm512_add_epi32(_mm512_slli_epi32(right, shift), _mm512_loadu_si512(to + 16));
        _mm512_storeu_si512(to, left);
        _mm512_storeu_si512(to + 16, right);
    }
}

/* Named variables, not arrays: compilers spill arrays of registers. */
#define ZERO _mm512_setzero_si512()
#define SUMS(v)                                      \
    __m512i low_pair##v = ZERO, low_odd##v = ZERO;   \
    __m512i high_pair##v = ZERO, high_odd##v = ZERO
#define LOAD(entry) _mm512_loadu_si512(row + (entry))
#define STEP(v)                                                                      \
    if (vectors > (v)) {                                                             \
        const __m512i words = _mm512_loadu_si512(x + 64 * (v));                      \
        const __mmask64 top = seven ? 0 : _mm512_movepi8_mask(words);                \
        const __m512i low = look_up(words, top, a0, a1, a2, a3, seven);              \
        low_pair##v = _mm512_add_epi16(low_pair##v, low);                            \
        low_odd##v = _mm512_add_epi16(low_odd##v, _mm512_srli_epi16(low, 8));        \
        if (planes == 2) {                                                           \
            const __m512i high = look_up(words, top, b0, b1, b2, b3, seven);         \
            high_pair##v = _mm512_add_epi16(high_pair##v, high);                     \
            high_odd##v = _mm512_add_epi16(high_odd##v, _mm512_srli_epi16(high, 8)); \
        }                                                                            \
    }
#define FLUSH(v)                                                                    \
    if (vectors > (v)) {                                                            \
        add_sums(sums + 64 * (v), low_pair##v, low_odd##v, 0);                      \
        if (planes == 2) add_sums(sums + 64 * (v), high_pair##v, high_odd##v, 8);   \
    }

static inline __attribute__((always_inline)) void look_up_tile(
    const int planes, const int vectors, const int seven, const uint8_t *x, const uint8_t *weight,
    int64_t count, const uint8_t *table, uint32_t *sums) {
    SUMS(0); SUMS(1); SUMS(2); SUMS(3);
    for (int64_t k = 0; k < count; k++, x += TILE) {
        const uint8_t *row = table + (size_t)weight[k] * 256 * planes;
        const int64_t ahead = k + AHEAD < count ? k + AHEAD : k;
        const uint8_t *later = table + (size_t)weight[ahead] * 256 * planes;
        for (int plane = 0; plane < planes; plane++)
            for (int line = 0; line < (seven ? 2 : 4); line++)
                _mm_prefetch((const char *)later + plane * 256 + line * 64, _MM_HINT_T0);
        const __m512i a0 = LOAD(0), a1 = LOAD(64);
        const __m512i a2 = seven ? a0 : LOAD(128), a3 = seven ? a0 : LOAD(192);
        const __m512i b0 = planes == 2 ? LOAD(256) : a0, b1 = planes == 2 ? LOAD(320) : a0;
        const __m512i b2 = planes == 2 && !seven ? LOAD(384) : a0;
        const __m512i b3 = planes == 2 && !seven ? LOAD(448) : a0;
        STEP(0) STEP(1) STEP(2) STEP(3)
    }
    FLUSH(0) FLUSH(1) FLUSH(2) FLUSH(3)
}

typedef void (*TileFunction)(const uint8_t *, const uint8_t *, int64_t, const uint8_t *,
                             uint32_t *);

/* Never inlined: within a larger function gcc spills the sums. */
#define VARIANT(planes, vectors, seven)                                                        \
    static __attribute__((noinline)) void tile_##planes##vectors##seven(                       \
        const uint8_t *x, const uint8_t *weight, int64_t count, const uint8_t *table,          \
        uint32_t *sums) {                                                                      \
        look_up_tile(planes, vectors, seven, x, weight, count, table, sums);                   \
    }
#define VARIANTS(planes, seven)                         \
    VARIANT(planes, 1, seven) VARIANT(planes, 2, seven) \
    VARIANT(planes, 3, seven) VARIANT(planes, 4, seven)
#define NAMES(planes, seven)                          \
    {tile_##planes##1##seven, tile_##planes##2##seven, \
     tile_##planes##3##seven, tile_##planes##4##seven}
VARIANTS(1, 0) VARIANTS(1, 1) VARIANTS(2, 0) VARIANTS(2, 1)

static const TileFunction tiles[2][2][4] = {{NAMES(1, 0), NAMES(1, 1)}, {NAMES(2, 0), NAMES(2, 1)}};

static void look_up_block(const uint8_t *x, const uint8_t *weight, int64_t count,
                          const uint8_t *table, int planes, int lanes, int seven, uint32_t *sums) {
    tiles[planes - 1][seven][lanes / 64 - 1](x, weight, count, table, sums);
}

static inline __mmask64 first_bytes(int64_t count) {
    return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1;
}

static inline void copy_run(uint8_t *to, const uint8_t *from, int64_t count, int64_t step) {
    if (step == 1 && count <= 16) { /* narrow stores cross fewer lines of the cache */
        const __mmask16 mask = (__mmask16)first_bytes(count);
        _mm_storeu_si128((__m128i *)to, _mm_maskz_loadu_epi8(mask, from));
    } else if (step == 1 && count <= 32) {
        const __mmask32 mask = (__mmask32)first_bytes(count);
        _mm256_storeu_si256((__m256i *)to, _mm256_maskz_loadu_epi8(mask, from));
    } else if (step == 1) {
        for (int64_t i = 0; i < count; i += 64)
            _mm512_storeu_si512(to + i, _mm512_maskz_loadu_epi8(first_bytes(count - i), from + i));
    } else if (step == 2) {
        for (int64_t i = 0; i < count; i += 32) {
            const __mmask64 mask = first_bytes(2 * (count - i) - 1);
            const __m512i words = _mm512_maskz_loadu_epi8(mask, from + 2 * i);
            _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtepi16_epi8(words));
        }
    } else {
        for (int64_t i = 0; i < count; i++) to[i] = from[i * step];
    }
}

static void remap_row(uint8_t *to, const uint8_t *from, int64_t count, const uint8_t *table) {
    const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
    const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    for (int64_t i = 0; i < count; i += 64) {
        const __mmask64 mask = first_bytes(count - i);
        const __m512i x = _mm512_maskz_loadu_epi8(mask, from + i);
        const __m512i words = look_up(x, _mm512_movepi8_mask(x), t0, t1, t2, t3, 0);
        _mm512_mask_storeu_epi8(to + i, mask, words);
    }
}

static void remap_short(uint8_t *to, const uint8_t *from, int64_t count, const uint8_t *tables,
                        int64_t terms) {
    const __mmask64 mask = first_bytes(count);
    const __m512i x = _mm512_maskz_loadu_epi8(mask, from);
    const __mmask64 top = _mm512_movepi8_mask(x);
    for (int64_t t = 0; t < terms; t++, to += count, tables += 256) {
        const __m512i t0 = _mm512_loadu_si512(tables), t1 = _mm512_loadu_si512(tables + 64);
        const __m512i t2 = _mm512_loadu_si512(tables + 128), t3 = _mm512_loadu_si512(tables + 192);
        const __m512i words = look_up(x, top, t0, t1, t2, t3, 0);
        if (count == 16)
            _mm_storeu_si128((__m128i *)to, _mm512_castsi512_si128(words));
        else if (count == 32)
            _mm256_storeu_si256((__m256i *)to, _mm512_castsi512_si256(words));
        else
            _mm512_mask_storeu_epi8(to, mask, words);
    }
}

/* A square of 16 x 16 numbers, turned within registers: pairs, fours, then quarters of registers. */
static void turn(uint32_t *to, const float *from, int64_t pixels, int64_t filters, int64_t step) {
    const __mmask16 some = (__mmask16)first_bytes(filters), lanes = (__mmask16)first_bytes(pixels);
    __m512i a[16], b[16];
    for (int p = 0; p < 16; p++)
        a[p] = p < pixels ? _mm512_cvttps_epi32(_mm512_maskz_loadu_ps(some, from + p * step))
                          : _mm512_setzero_si512();
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) { /* a[i + f % 4]: filters f, f + 4, f + 8, f + 12 */
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            b[i + j] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0x88);
            b[i + j + 4] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        a[j] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0x88);
        a[j + 8] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0xdd);
    }
    for (int f = 0; f < filters; f++) {
        const __m512i sum = _mm512_maskz_loadu_epi32(lanes, to + f * TILE);
        _mm512_mask_storeu_epi32(to + f * TILE, lanes, _mm512_add_epi32(sum, a[f]));
    }
}

static uint32_t sum_bytes(const uint8_t *from, int64_t count) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 64)
        sums = _mm512_dpbusd_epi32(
            sums, _mm512_maskz_loadu_epi8(first_bytes(count - i), from + i), ones);
    return (uint32_t)_mm512_reduce_add_epi32(sums);
}

/* `vpdpbusd` adds four products to each of 16 sums. The arrays become registers, as all of their
 * indices are constants. */
static inline __attribute__((always_inline)) void multiply_windows(
    const int vectors, const int windows, const uint8_t *const *from, const int64_t *runs,
    int64_t n_runs, int64_t quads, const int8_t *weight, int32_t *sums) {
    const uint8_t *x[8];
    __m512i total[8][4], w[4];
#pragma GCC unroll 8
    for (int p = 0; p < windows; p++) {
        x[p] = from[p];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) total[p][v] = _mm512_setzero_si512();
    }
    for (int64_t r = 0; r < n_runs; r++)
        for (int64_t at = runs[r], end = runs[r] + 4 * quads; at < end; at += 4) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) w[v] = _mm512_loadu_si512(weight + 64 * v);
            weight += 64 * vectors;
#pragma GCC unroll 8
            for (int p = 0; p < windows; p++) {
                int32_t four;
                memcpy(&four, x[p] + at, 4);
                const __m512i words = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    total[p][v] = _mm512_dpbusd_epi32(total[p][v], words, w[v]);
            }
        }
#pragma GCC unroll 8
    for (int p = 0; p < windows; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_si512(sums + 16 * (p * vectors + v), total[p][v]);
}

#define WINDOWS(vectors, windows)                                                        \
    static __attribute__((noinline)) void windows_##vectors##windows(                    \
        const uint8_t *const *from, const int64_t *runs, int64_t n_runs, int64_t quads,  \
        const int8_t *weight, int32_t *sums) {                                           \
        multiply_windows(vectors, windows, from, runs, n_runs, quads, weight, sums);     \
    }
WINDOWS(1, 1) WINDOWS(2, 1) WINDOWS(3, 1) WINDOWS(4, 1)
WINDOWS(1, 8) WINDOWS(2, 8) WINDOWS(3, 8) WINDOWS(4, 6)

typedef void (*WindowsFunction)(const uint8_t *const *, const int64_t *, int64_t, int64_t,
                                const int8_t *, int32_t *);
static const WindowsFunction one_window[4] = {windows_11, windows_21, windows_31, windows_41};
static const WindowsFunction some_windows[4] = {windows_18, windows_28, windows_38, windows_46};

static void multiply(const uint8_t *const *from, const int64_t *runs, int64_t n_runs, int64_t quads,
                     const int8_t *weight, int vectors, int pixels, int32_t *sums) {
    const WindowsFunction *functions = pixels == 1 ? one_window : some_windows;
    functions[vectors - 1](from, runs, n_runs, quads, weight, sums);
}

static inline __attribute__((always_inline)) void multiply_some(
    const int vectors, const uint8_t *from, const int64_t *runs, int64_t pairs,
    const int16_t *weight, int64_t channels, int32_t *sums) {
    __m512i total[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) total[v] = _mm512_setzero_si512();
    for (int64_t t = 0; t < pairs; t++, weight += 2 * channels) {
        const uint8_t *x = from + runs[2 * t], *y = from + runs[2 * t + 1];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const __m512i a = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(x + 16 * v)));
            const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(y + 16 * v)));
            total[v] =
                _mm512_dpwssd_epi32(total[v], _mm512_or_si512(a, _mm512_slli_epi32(b, 16)),
                                    _mm512_loadu_si512(weight + 32 * v));
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) _mm512_storeu_si512(sums + 16 * v, total[v]);
}

static void multiply_channels(const uint8_t *from, const int64_t *runs, int64_t pairs,
                              const int16_t *weight, int64_t channels, int vectors,
                              int32_t *sums) {
    if (vectors == 4)
        multiply_some(4, from, runs, pairs, weight, channels, sums);
    else if (vectors == 3)
        multiply_some(3, from, runs, pairs, weight, channels, sums);
    else if (vectors == 2)
        multiply_some(2, from, runs, pairs, weight, channels, sums);
    else
        multiply_some(1, from, runs, pairs, weight, channels, sums);
}

/* What `to_word` does to 16 sums: to clamp before rounding gives the same, as bounds are whole
 * numbers. Everything is loaded once, since stores of bytes might change what pointers point to. */
static inline __attribute__((always_inline)) void write_some(
    const int result, const Int8Convolution *job, const int32_t *sums, int64_t filter,
    int32_t word_sum, int64_t place, int64_t count) {
    const int32_t *start = job->start + filter;
    const int32_t *shift = job->shift == NULL ? NULL : job->shift + filter;
    const float *multiplier = job->how.multiplier + filter;
    const int truncate = job->how.truncate != 0, scale = (int)job->scale;
    const __m512 point = _mm512_set1_ps(job->how.zero_point), none = _mm512_setzero_ps();
    const __m512 low = _mm512_sub_ps(_mm512_set1_ps(job->how.low), truncate ? none : point);
    const __m512 high = _mm512_sub_ps(_mm512_set1_ps(job->how.high), truncate ? none : point);
    const __m512i whole = _mm512_cvtps_epi32(point), words_under = _mm512_set1_epi32(word_sum);
    uint8_t *bytes = (uint8_t *)job->out + place;
    int16_t *longer = (int16_t *)job->out + place;
    int32_t *whole_sums = (int32_t *)job->out + place;
    float *real = (float *)job->out + place;
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = (__mmask16)first_bytes(count - i);
        __m512i sum = _mm512_loadu_si512(sums + i);
        if (scale != 1) sum = _mm512_mullo_epi32(sum, _mm512_set1_epi32(scale));
        sum = _mm512_add_epi32(sum, _mm512_loadu_si512(start + i));
        if (shift != NULL)
            sum = _mm512_add_epi32(
                sum, _mm512_mullo_epi32(words_under, _mm512_loadu_si512(shift + i)));
        if (result == RESULT_SUMS) {
            _mm512_mask_storeu_epi32(whole_sums + i, mask, sum);
            continue;
        }
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(multiplier + i));
        if (result == RESULT_REAL) {
            _mm512_mask_storeu_ps(real + i, mask, value);
            continue;
        }
        if (truncate) value = _mm512_add_ps(value, point);
        value = _mm512_min_ps(_mm512_max_ps(value, low), high);
        const __m512i words = truncate ? _mm512_cvttps_epi32(value)
                                       : _mm512_add_epi32(_mm512_cvtps_epi32(value), whole);
        if (result == RESULT_WORDS && mask == 0xffff)
            _mm_storeu_si128((__m128i *)(bytes + i), _mm512_cvtepi32_epi8(words));
        else if (result == RESULT_WORDS)
            _mm_mask_storeu_epi8(bytes + i, mask, _mm512_cvtepi32_epi8(words));
        else
            _mm256_mask_storeu_epi16(longer + i, mask, _mm512_cvtepi32_epi16(words));
    }
}

static void write_sums(const Int8Convolution *job, const int32_t *sums, int64_t filter,
                       int32_t word_sum, int64_t place, int64_t count) {
    if (job->result == RESULT_WORDS)
        write_some(RESULT_WORDS, job, sums, filter, word_sum, place, count);
    else if (job->result == RESULT_LONG_WORDS)
        write_some(RESULT_LONG_WORDS, job, sums, filter, word_sum, place, count);
    else if (job->result == RESULT_REAL)
        write_some(RESULT_REAL, job, sums, filter, word_sum, place, count);
    else
        write_some(RESULT_SUMS, job, sums, filter, word_sum, place, count);
}

#include "level.h"

const Level bitproof_level_vbmi = FUNCTIONS;

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
