// The seam between the decoder's key/value cache and whoever computes a step over it: ONNX Runtime or our own kernels.
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

/// <summary>What the cached decoder needs computed.</summary>
internal interface IStepPasses
{
    /// <summary>The cross attention's keys and values.</summary>
    /// <param name="hidden">f32 [texts, source, D], the encoder's output.</param>
    /// <param name="texts">Texts.</param>
    /// <param name="source">S, padding included.</param>
    /// <param name="made">[texts, H, S, K] each, overwritten: keys and values of the first layer, then of the next.</param>
    void Remember(Tensor hidden, int texts, int source, ReadOnlySpan<Tensor> made);

    /// <summary>One token a row.</summary>
    void Step(StepTensors step);

    /// <summary>The decoder is done with these passes.</summary>
    void Leave();
}

/// <summary>Operands of a step; one object serves all.</summary>
/// <param name="kinds">Keys and values of every layer: 2 * layers.</param>
internal sealed class StepTensors(int kinds)
{
    public int Texts { get; set; }

    /// <summary>Rows of each text, side by side.</summary>
    public int Beams { get; set; }

    /// <summary>S.</summary>
    public int Source { get; set; }

    /// <summary>Tokens of the past.</summary>
    public int Length { get; set; }

    /// <summary>f32 [texts * beams, D]; may be overwritten.</summary>
    public Tensor Embeds { get; set; }

    /// <summary>i32 [texts, S]: 1 is read, 0 is padding.</summary>
    public Tensor Mask { get; set; }

    /// <summary>i32 [texts]: positions before the padding.</summary>
    public Tensor Lengths { get; set; }

    /// <summary>f32 [1, H, 1, length + 1].</summary>
    public Tensor Bias { get; set; }

    /// <summary>[texts, H, S, K] each.</summary>
    public Tensor[] Cross { get; } = new Tensor[kinds];

    /// <summary>[rows, H, length, K] each.</summary>
    public Tensor[] Past { get; } = new Tensor[kinds];

    /// <summary>[rows, H, length + 1, K] each, overwritten.</summary>
    public Tensor[] Present { get; } = new Tensor[kinds];

    /// <summary>f32 [texts * beams, V], overwritten.</summary>
    public Tensor Logits { get; set; }
}
