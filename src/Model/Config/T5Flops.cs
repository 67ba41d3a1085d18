// What a pass must compute at least, counted once for benchmarks, profile and plans. Products only; norms and activations are bound by memory.
namespace IptNative.Model.Config;

/// <summary>Floating-point operations of a batch whose examples are equally long, a multiply-add counted as two.</summary>
/// <param name="config">The model.</param>
/// <param name="batch">B.</param>
/// <param name="source">S, prompt included.</param>
/// <param name="target">T.</param>
public readonly struct T5Flops(T5Config config, long batch, long source, long target)
{
    /// <summary>Encoder, decoder and lm_head, each product once.</summary>
    public double Forward => Linear + Attention;

    /// <summary>The gradient of the encoder's input alone: each linear product once, each attention product twice; recomputing not counted.</summary>
    public double InputGradient => Linear + 2 * Attention;

    /// <summary>The encoder's share of <see cref="Forward"/>.</summary>
    public double EncoderForward => 2.0 * batch * source * config.NumLayers * (4.0 * config.DModel * config.InnerDim + FeedForward)
        + 4.0 * batch * source * source * config.InnerDim * config.NumLayers;

    private double FeedForward => (config.IsGated ? 3.0 : 2.0) * config.DModel * config.DFf;

    private double Linear
    {
        get
        {
            double square = (double)config.DModel * config.InnerDim;
            double encoder = config.NumLayers * (double)source * (4 * square + FeedForward);
            double cross = config.NumDecoderLayers * (double)source * 2 * square;
            double decoder = config.NumDecoderLayers * (double)target * (6 * square + FeedForward);
            double head = (double)target * config.DModel * config.VocabSize;
            return 2.0 * batch * (encoder + cross + decoder + head);
        }
    }

    private double Attention => 4.0 * batch * config.InnerDim
        * (config.NumLayers * (double)source * source + config.NumDecoderLayers * (double)target * (target + source));
}
