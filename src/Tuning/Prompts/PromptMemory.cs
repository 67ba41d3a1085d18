// Prompts laid into device memory as one table. Deliberately not: which example reads which (T5Batch), how they are trained.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;

namespace IptNative.Tuning.Prompts;

/// <summary>Owns the memory of a <see cref="PromptTable"/> and copies prompts in and out of it.</summary>
public sealed class PromptMemory : IDisposable
{
    private readonly DeviceBuffer _memory;

    /// <summary>Lays prompts side by side, of different lengths too.</summary>
    /// <param name="device">Where they will lie: where steps are computed, or the model's.</param>
    /// <param name="prompts">At least one, all of one width; copied.</param>
    /// <exception cref="ArgumentException">There are no prompts, or their widths differ.</exception>
    public PromptMemory(ComputeDevice device, params IReadOnlyList<Prompt> prompts)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(prompts);
        if (prompts.Count == 0)
            throw new ArgumentException("Prompt memory: found 0 prompts, expected at least 1.", nameof(prompts));
        int dModel = prompts[0].DModel;
        for (int i = 1; i < prompts.Count; i++)
        {
            if (prompts[i].DModel != dModel)
                throw new ArgumentException($"Prompt memory: prompt {i} has d_model {prompts[i].DModel}, prompt 0 has {dModel}; expected one width. Prompts of one table belong to one model.", nameof(prompts));
        }
        _memory = device.Allocate(DType.F32, prompts.Sum(p => (long)p.Values.Length), "prompts");
        Table = new PromptTable(_memory.Tensor, dModel, [.. prompts.Select(p => p.Length)]);
        for (int i = 0; i < prompts.Count; i++)
            Of(i).CopyFrom<float>(prompts[i].Values);
    }

    /// <summary>The table: prompt i is the i-th that was given.</summary>
    public PromptTable Table { get; }

    /// <summary>A prompt's own part of the memory.</summary>
    /// <param name="prompt">0 to Table.Count - 1.</param>
    /// <returns>f32 [P, D]; writing to it changes the prompt.</returns>
    public Tensor Of(int prompt) => _memory.Tensor.Slice((long)Table.First(prompt) * Table.DModel, (long)Table.Length(prompt) * Table.DModel);

    /// <summary>Copies a prompt out.</summary>
    /// <param name="prompt">0 to Table.Count - 1.</param>
    /// <returns>What it is now.</returns>
    public Prompt Read(int prompt) => new(Of(prompt).ToArray<float>(), Table.Length(prompt), Table.DModel);

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();
}
