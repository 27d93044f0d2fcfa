/* How sums become words; a part of level.h. */
static inline int32_t to_word(float value, const Requantization *how) {
    /* Beyond 2**22 every value clamps; within, adding 1.5 * 2**23 rounds half to even. */
    const float limit = 4194304.0f, shift = 12582912.0f;
    value = value < limit ? value : limit;
    value = value > -limit ? value : -limit;
    value = how->truncate ? value : (value + shift) - shift;
    value = value + how->zero_point;
    value = value > how->low ? value : how->low;
    value = value < how->high ? value : how->high;
    return (int32_t)value;
}

/* A channel of float sums that lie next to one another. */
static void requantize_run(const float *restrict sums, uint8_t *restrict out, int64_t count,
                           float multiplier, float scale, float start, Requantization how) {
    if (scale == 1.0f && start == 0.0f)
        for (int64_t i = 0; i < count; i++) out[i] = (uint8_t)to_word(sums[i] * multiplier, &how);
    else
        for (int64_t i = 0; i < count; i++)
            out[i] = (uint8_t)to_word((sums[i] * scale + start) * multiplier, &how);
}

/* Sums that have a multiplier and a start each. */
static void requantize_each(const float *restrict sums, uint8_t *restrict out, int64_t count,
                            const float *restrict multiplier, float scale,
                            const float *restrict start, Requantization how) {
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint8_t)to_word((sums[i] * scale + start[i]) * multiplier[i], &how);
}

/* Pixels of which the channels are neighbours: several at a time, since vectors are long. */
static void requantize_pixels(const RequantizeSums *job, int64_t first, int64_t last) {
    enum { RUN = 128 };
    float multiplier[RUN], start[RUN];
    const int64_t channels = job->channels, together = channels < RUN ? RUN / channels : 1;
    for (int64_t c = 0; c < channels; c += RUN) {
        const int64_t width = channels - c < RUN ? channels - c : RUN;
        for (int64_t i = 0; i < together * width; i++) {
            multiplier[i] = job->how.multiplier[job->how.multipliers == 1 ? 0 : c + i % width];
            start[i] = job->start == NULL ? 0.0f : job->start[c + i % width];
        }
        for (int64_t r = first; r < last; r += together) {
            const int64_t pixels = last - r < together ? last - r : together;
            requantize_each(job->sums + r * channels + c, job->out + r * channels + c,
                            pixels * width, multiplier, job->scale, start, job->how);
        }
    }
}

static void requantize_rows(const RequantizeSums *job, int64_t first, int64_t last) {
    const int64_t row = job->channels * job->inner;
    if (job->inner == 1) {
        requantize_pixels(job, first, last);
        return;
    }
    for (int64_t r = first * row; r < last * row; r += row)
        for (int64_t c = 0; c < job->channels; c++)
            requantize_run(job->sums + r + c * job->inner, job->out + r + c * job->inner,
                           job->inner, job->how.multiplier[job->how.multipliers == 1 ? 0 : c],
                           job->scale, job->start == NULL ? 0.0f : job->start[c], job->how);
}

/* Sums of two words; a word is read as signed where its eighth bit is a sign. */
static void add_run(const uint8_t *restrict left, const uint8_t *restrict right,
                    uint8_t *restrict out, int64_t count, AddWords job) {
    /* (word ^ flip) - flip extends the sign of an int8 word. */
    const int32_t flip = job.left_signed ? 128 : 0, other = job.right_signed ? 128 : 0;
    for (int64_t i = 0; i < count; i++) {
        const float a = (float)((left[i] ^ flip) - flip) - job.left_point;
        const float b = (float)((right[i] ^ other) - other) - job.right_point;
        const float value = a * job.left_multiplier + b * job.right_multiplier;
        out[i] = (uint8_t)to_word(value, &job.how);
    }
}

static void sum_two(const AddWords *job, int64_t first, int64_t last) {
    add_run(job->left + first, job->right + first, job->out + first, last - first, *job);
}
