/* What the levels (portable, AVX2, AVX-512 VBMI) compute, and what each of them offers.
 *
 * A convolution looks every product up:
 *   out[n, m, y, x] = start[m] + addend[n, m, y, x] + sum over c, ky, kx of T_m[word, weight]
 *                     - weight_zero[m] * sum over c, ky, kx of word
 * with T_m[a, w] = low[w][a] + 256 * high[w][a]; sums are 32-bit and wrap. The input is padded
 * already.
 * Every level gives the same bits.
 */
#ifndef BITPROOF_TABLES_H
#define BITPROOF_TABLES_H

#include <stddef.h>
#include <stdint.h>

enum {
    TILE = 256,        /* pixels that share the registers of one weight's table */
    BLOCK = 128,       /* terms between two flushes: 16-bit pairs of byte sums hold 257 of them */
    FILTERS = 256,     /* filters whose 32-bit sums (1 KiB each) stay in the second-level cache */
    SLACK = 64         /* bytes behind the scratch that vector stores may touch */
};

/* How 32-bit or float sums become words: clamp(round(sum * multiplier) + zero_point, low, high). */
typedef struct {
    const float *multiplier;
    int64_t multipliers; /* 1, or one a channel */
    int64_t truncate;    /* 0: nearest, half to even; 1: toward zero, after the zero point */
    float zero_point, low, high, unused;
} Requantization;

/* One convolution. jobs.py mirrors the layout; `bitproof_layout` tells it apart. */
typedef struct {
    const uint8_t *words;       /* images, channels, height, width */
    const uint8_t *weight;      /* filters, channels / groups, kernel_height, kernel_width */
    const uint8_t *tables;      /* any, 256 weights, planes, 256 words */
    const int32_t *choice;      /* table of each filter */
    const int32_t *start;       /* of each filter */
    const int32_t *weight_zero; /* of each filter, or NULL */
    const float *addend;        /* whole numbers of the output's shape, or NULL */
    void *out;                  /* images, filters, out_height, out_width: int32, or words */
    int64_t images, channels, height, width;
    int64_t filters, kernel_height, kernel_width, groups;
    int64_t out_height, out_width;
    int64_t stride_y, stride_x, dilation_y, dilation_x;
    int64_t planes, signed_words, requantizes;
    int64_t addend_last;        /* whether the addend's filters are its last dimension */
    Requantization how;
} Convolution;

/* target[row][t][i] = tables[t][source[row][i]] */
typedef struct {
    const uint8_t *source;
    uint8_t *target;
    const uint8_t *tables;
    int64_t terms, inner;
} RemapTerms;

/* Float sums [rows][channels][inner], times scale, plus start, to words of the same layout. */
typedef struct {
    const float *sums;
    uint8_t *out;
    const float *start; /* of each channel, or NULL */
    int64_t channels, inner;
    float scale, unused;
    Requantization how;
} RequantizeSums;

/* Words that are added: out = how((left - point) * multiplier + (right - point) * multiplier). */
typedef struct {
    const uint8_t *left;
    const uint8_t *right;
    uint8_t *out;
    int64_t left_signed, right_signed;
    float left_point, left_multiplier, right_point, right_multiplier;
    Requantization how; /* without a multiplier */
} AddWords;

/* Tiles [first, last) of filters [first_filter, last_filter); 0, or -1 if there is no memory. */
typedef int (*ConvolveFunction)(const Convolution *, int64_t, int64_t, int64_t, int64_t);
typedef void (*RemapRowFunction)(uint8_t *, const uint8_t *, int64_t, const uint8_t *);
typedef void (*RemapTermsFunction)(const RemapTerms *, int64_t, int64_t);
typedef void (*RequantizeFunction)(const RequantizeSums *, int64_t, int64_t);
typedef void (*AddWordsFunction)(const AddWords *, int64_t, int64_t);

typedef struct {
    ConvolveFunction convolve;
    RemapRowFunction remap_row;
    RemapTermsFunction remap_terms;
    RequantizeFunction requantize;
    AddWordsFunction add_words;
} Level;

extern const Level bitproof_level_portable;
#if defined(__x86_64__)
extern const Level bitproof_level_avx2;
extern const Level bitproof_level_vbmi;
#endif

#endif
