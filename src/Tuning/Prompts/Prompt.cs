// A soft prompt as a value: rows that stand before the input's embeddings. Deliberately not: training state, files (PromptFile).
using IptNative.Model.Config;

namespace IptNative.Tuning.Prompts;

/// <summary>A soft prompt: <see cref="Length"/> rows of <see cref="DModel"/> floats.</summary>
public sealed record Prompt
{
    /// <summary>Makes a prompt.</summary>
    /// <param name="values">[P, D] row-major, f32; kept, not copied.</param>
    /// <param name="length">P, number of virtual tokens, 1 or more.</param>
    /// <param name="dModel">D, the model's d_model, 1 or more.</param>
    /// <exception cref="ArgumentException">The number of values is not P * D, or a size is below 1.</exception>
    public Prompt(float[] values, int length, int dModel)
    {
        ArgumentNullException.ThrowIfNull(values);
        if (length < 1 || dModel < 1 || (long)length * dModel != values.Length)
            throw new ArgumentException($"Prompt: found {values.Length} values for [{length}, {dModel}], expected length * d_model of them and both at least 1.", nameof(values));
        (Values, Length, DModel) = (values, length, dModel);
    }

    /// <summary>[P, D] row-major.</summary>
    public float[] Values { get; }

    /// <summary>P, the number of virtual tokens.</summary>
    public int Length { get; }

    /// <summary>D, the width of the model that the prompt belongs to.</summary>
    public int DModel { get; }

    /// <summary>Where the rows stand in a text; null before it.</summary>
    public PromptTemplate? Template
    {
        get;
        init => field = value is null || value.Rows == Length
            ? value
            : throw new ArgumentException($"Prompt: the template \"{value}\" has {value.Rows} virtual tokens, the prompt has {Length} rows; expected as many. The two belong to different prompts.", nameof(value));
    }

    /// <summary>num_layers of the model that it was trained on; null where its file does not say.</summary>
    public int? NumLayers { get; init; }

    /// <summary>num_heads of that model; null where its file does not say.</summary>
    public int? NumHeads { get; init; }

    /// <summary>Throws where the prompt is of another model, as far as it can be told: by its width, and by what its file says of the model.</summary>
    /// <param name="config">The model that is to answer.</param>
    /// <param name="path">Where the prompt came from, for the message.</param>
    /// <exception cref="InvalidDataException">The two differ.</exception>
    public void RequireModel(T5Config config, string path)
    {
        ArgumentNullException.ThrowIfNull(config);
        RequireWidth(config.DModel, path);
        Same("num_layers", NumLayers, config.NumLayers);
        Same("num_heads", NumHeads, config.NumHeads);

        void Same(string name, int? trained, int found)
        {
            if (trained is { } expected && expected != found)
                throw new InvalidDataException($"{path}: the prompt was trained on a model with {name}={expected}, this one has {found}. A prompt fits only the checkpoint that it was trained on.");
        }
    }

    /// <summary>Throws where the prompt is of a model of another width.</summary>
    /// <param name="dModel">The model's d_model.</param>
    /// <param name="path">Where the prompt came from, for the message.</param>
    /// <exception cref="InvalidDataException">The widths differ.</exception>
    public void RequireWidth(int dModel, string path)
    {
        if (DModel != dModel)
            throw new InvalidDataException($"{path}: the prompt has shape [{Length}, {DModel}], the model has d_model={dModel}. A prompt fits only the checkpoint that it was trained on.");
    }
}
