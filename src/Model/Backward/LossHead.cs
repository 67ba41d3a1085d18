// The decoder's final norm, lm_head, cross entropy, and their gradient, a few rows at a time: logits of all tokens never exist together.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Forward;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Backward;

/// <summary>How much of the logits exists at a time.</summary>
public static class LossChunk
{
    /// <summary>Memory for logits: enough rows that the product over W is bound by arithmetic, few enough to stay out of the way.</summary>
    public const long Bytes = 32 << 20;
}

/// <summary>Per-token losses and the gradient of the decoder's output.</summary>
/// <remarks>
/// Forward   logits = s RMSNorm(x) W^T, s = d_model^-0.5 where the head is tied, else 1;  loss_i = CE(logits_i, label_i);  L = sum_i w_i loss_i
/// Backward  dlogits from the cross entropy in place;  dn = s dlogits W;  dx = RMSNorm's vjp of dn.
/// Shapes    x, dx: [RT, D];  labels, w, loss: [RT];  W: [V, D];  logits: at most <see cref="LossChunk.Bytes"/> at a time.
/// </remarks>
internal sealed class LossHead(T5Layers layers) : IDisposable
{
    private readonly GrowingBuffer _logits = new(layers.Device, DType.F32, "logits");

    /// <summary>Losses, and dx where it is wanted.</summary>
    /// <param name="x">f32 [RT, D], the decoder's output before its final norm.</param>
    /// <param name="labels">i32 [RT]; -100 does not count.</param>
    /// <param name="weights">f64 [RT], what each token counts.</param>
    /// <param name="loss">f64 [RT], overwritten; unweighted.</param>
    /// <param name="dx">f32 [RT, D], overwritten; empty where no gradient is wanted.</param>
    /// <param name="rows">RT, 1 or more.</param>
    /// <param name="options">Label smoothing and z-loss.</param>
    public void Run(Tensor x, Tensor labels, Tensor weights, Tensor loss, Tensor dx, int rows, TokenLoss options)
    {
        ComputeDevice device = layers.Device;
        int d = layers.Config.DModel, v = layers.Config.VocabSize;
        Tensor r = layers.Scratch.Take(Slot.InverseRms, rows);
        Tensor n = layers.Scratch.Take(Slot.Norm, (long)rows * d);
        RmsNorm.Forward(device, x, layers.DecoderNorm, r, n, rows, d, layers.Config.LayerNormEpsilon);
        int blocks = layers.Encoder.Length + layers.Decoder.Length;
        layers.Enter(blocks, dx.IsEmpty ? -1 : blocks - 1);
        int most = Chunk(rows);
        for (int first = 0; first < rows; first += most)
        {
            int count = Math.Min(most, rows - first);
            Tensor logits = _logits.Take((long)count * v);
            Gemm.Run(device, new GemmArgs { A = n.Slice((long)first * d, (long)count * d), B = layers.LmHead, C = logits, M = count, N = v, K = d, TransB = true, Alpha = layers.LmScale });
            Tensor label = labels.Slice(first, count), losses = loss.Slice(first, count);
            if (dx.IsEmpty)
            {
                CrossEntropy.Forward(device, logits, label, losses, count, v, options);
                continue;
            }
            CrossEntropy.ForwardBackwardInPlace(device, logits, label, weights.Slice(first, count), losses, count, v, options);
            Gemm.Run(device, new GemmArgs { A = logits, B = layers.LmHead, C = dx.Slice((long)first * d, (long)count * d), M = count, N = d, K = v, Alpha = layers.LmScale });
        }
        if (!dx.IsEmpty)
            RmsNorm.Backward(device, x, layers.DecoderNorm, r, dx, dx, rows, d);
    }

    /// <summary>Takes memory for so many rows before they come.</summary>
    public void Reserve(int rows) => _logits.Take((long)Chunk(rows) * layers.Config.VocabSize);

    public void Dispose() => _logits.Dispose();

    // Rows whose logits exist together.
    private int Chunk(int rows) => (int)Math.Clamp(LossChunk.Bytes / (sizeof(float) * (long)layers.Config.VocabSize), 1, rows);
}
