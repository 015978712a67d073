/* H.264 without loss and without arithmetic: each macroblock is I_PCM, its samples as they are.
 *
 * The encoder of the stand-in driver writes it, the decoder reads it, and any other decoder can.
 * Names are those of ITU-T H.264.
 */
#ifndef H264_H
#define H264_H

#include <stddef.h>
#include <stdint.h>

/* What the parameter sets are made from. */
struct h264_format {
    unsigned width, height;
    unsigned profile_idc; /* 66, 77 or 100 */
    unsigned fps_numerator, fps_denominator;
    unsigned reorder_frames; /* 0 without B-frames, else 1 */
    unsigned has_colour, colour_primaries, transfer_characteristics, matrix_coefficients;
    unsigned full_range;
    unsigned variant; /* changes the parameter sets, and nothing else */
};

/* One picture: NV12, or three planes where `cr` is set. */
struct h264_samples {
    const uint8_t *luma, *cb, *cr; /* for NV12 `cb` has both */
    size_t luma_pitch, chroma_pitch;
};

struct h264_slice {
    int is_idr, is_reference;
    unsigned frame_num, idr_pic_id, pic_order_cnt_lsb;
};

/* Both write NAL units with start codes and give the number of bytes. */
size_t h264_parameter_sets(const struct h264_format *format, uint8_t *to);
size_t h264_picture(const struct h264_format *format, const struct h264_slice *slice,
                    const struct h264_samples *samples, uint8_t *to);

/* The most bytes that `h264_picture` can write. */
size_t h264_picture_limit(const struct h264_format *format);

/* Decodes one slice that `h264_picture` wrote, with its start code, to NV12 of whole macroblocks.
 * Gives 0 for anything else. */
int h264_decode(const uint8_t *nal, size_t size, unsigned macroblocks_across,
                unsigned macroblocks_down, uint8_t *luma, uint8_t *chroma, size_t pitch);

#endif
