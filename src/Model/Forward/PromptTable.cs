// Soft prompts of any number and length in one ragged table. Deliberately not: where they come from or how they are trained.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

/// <summary>Prompts one after another; an example of a batch names one by its number.</summary>
public sealed class PromptTable
{
    private readonly int[] _offsets;

    /// <summary>Looks at prompts that lie in device memory.</summary>
    /// <param name="values">f32 [sum of lengths, D], row-major; owned by the caller and read at every pass, so that an optimizer may change it between two.</param>
    /// <param name="dModel">D.</param>
    /// <param name="lengths">Rows of each prompt, 0 or more.</param>
    /// <exception cref="ArgumentException">The values are not f32 or not as many as the lengths imply.</exception>
    public PromptTable(Tensor values, int dModel, params ReadOnlySpan<int> lengths)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dModel, 1);
        _offsets = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(lengths[i], nameof(lengths));
            _offsets[i + 1] = checked(_offsets[i] + lengths[i]);
        }
        if (values.DType != DType.F32 || values.Elements != (long)Rows * dModel)
            throw new ArgumentException($"prompt table: found {values.Elements} values of {values.DType.Name()}, expected f32 [{Rows}, {dModel}] for prompts of the given lengths.", nameof(values));
        Values = values;
        DModel = dModel;
    }

    private PromptTable(PromptTable other, Tensor values) => (_offsets, DModel, Values) = (other._offsets, other.DModel, values);

    /// <summary>f32 [Rows, D].</summary>
    public Tensor Values { get; }

    /// <summary>D.</summary>
    public int DModel { get; }

    /// <summary>Number of prompts.</summary>
    public int Count => _offsets.Length - 1;

    /// <summary>Rows of all prompts together.</summary>
    public int Rows => _offsets[^1];

    /// <summary>The same prompts in other memory.</summary>
    internal PromptTable On(Tensor values) => new(this, values);

    /// <summary>First row of a prompt.</summary>
    /// <param name="prompt">0 to <see cref="Count"/> - 1.</param>
    /// <returns>Row number in <see cref="Values"/>.</returns>
    public int First(int prompt) => _offsets[prompt];

    /// <summary>Rows of a prompt.</summary>
    /// <param name="prompt">0 to <see cref="Count"/> - 1.</param>
    /// <returns>0 or more.</returns>
    public int Length(int prompt) => _offsets[prompt + 1] - _offsets[prompt];
}
