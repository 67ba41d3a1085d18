// The sections of a run file that only Intrinsic Prompt Tuning reads: "msf" finds a subspace, "ist" tunes inside one. Deliberately without optimizer, steps and
// loss: those are the run's own.
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>Options of <see cref="TuningMethod.Msf"/>.</summary>
public sealed record MsfConfig
{
    /// <summary>d_I.</summary>
    public int DI { get; init; } = 5;

    /// <summary>What the subspace is like and what is minimised; optimizer, training, loss and seed in it are the run's.</summary>
    public MsfSection Objective { get; init; } = new();

    internal MsfConfig Visit(OptionVisitor v) => new()
    {
        DI = v.Int("d_i", DI, 1, "Dimension of the subspace."),
        Objective = Objective.VisitObjective(v),
    };
}

/// <summary>Options of <see cref="TuningMethod.Ist"/>.</summary>
public sealed record IstConfig
{
    /// <summary>The subspace file.</summary>
    public string? Subspace { get; init; }

    /// <summary>Standard deviation of the first z.</summary>
    public double InitStd { get; init; } = 0.02;

    internal IstConfig Visit(OptionVisitor v) => new()
    {
        Subspace = v.FilePath("subspace", Subspace, "The subspace: best/subspace.safetensors of an msf run, or best-ckpt.pt of IPT's code."),
        InitStd = v.Number("init_std", InitStd, NumberRange.AtLeast(0), "Standard deviation of the first z."),
    };
}
